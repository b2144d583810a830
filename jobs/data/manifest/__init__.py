"""Manifests of clips: what they are, and their rows."""
