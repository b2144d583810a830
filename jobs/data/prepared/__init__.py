"""Clips encoded once and kept, to be mapped into memory by every trial."""
