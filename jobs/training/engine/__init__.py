"""DeepSpeed, in one place.

DeepSpeed's own checkpoints are pickles and load only on the same number of ranks. Here the state
is gathered to full tensors, which are saved as safetensors and load on any number.
"""
