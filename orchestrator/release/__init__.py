"""From a verdict to a voice that is registered, speaks, and is exported."""
