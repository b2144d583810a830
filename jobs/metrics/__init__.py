"""Perceptual and signal metrics: each measures one clip, or says why it could not."""
