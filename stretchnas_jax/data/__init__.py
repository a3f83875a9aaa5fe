"""The images of a data set, and the batches of a step."""
