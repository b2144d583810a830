"""Manifests of clips, read from JSON lines, LJSpeech's layout or pairs of files."""
