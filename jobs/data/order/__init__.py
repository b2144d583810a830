"""Which clips are held out, and which go into which step."""
