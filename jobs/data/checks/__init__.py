"""Checks of the clips: every problem is reported before anything is computed."""
