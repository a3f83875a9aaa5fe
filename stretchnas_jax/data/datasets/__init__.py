"""The images and labels of data sets."""
