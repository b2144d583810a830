"""Audio codecs: a waveform as one stream of discrete codes, and back."""
