"""Places to run and places to keep things; knows nothing of LoRA."""
