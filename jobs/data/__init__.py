"""From a manifest of recordings to batches: check, split, encode, cache."""
