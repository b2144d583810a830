"""Training adapters over a frozen base: PEFT adapters, a DeepSpeed engine, committed epochs."""
