"""From a table of scores to a verdict: pure functions, no audio, no Ray."""
