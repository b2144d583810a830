"""The order of the data: splits, mixes and batches."""
