"""A ``codec_lm`` voice as one GGUF file, which llama.cpp runs."""
