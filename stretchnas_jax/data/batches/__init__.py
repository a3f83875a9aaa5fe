"""The batches of a step: order, decoding, crops, augmentation."""
