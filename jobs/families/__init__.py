"""The kinds of text-to-speech models that a sweep can tune."""
