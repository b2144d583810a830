"""Sound files: decoded, checked, resampled, written."""
