"""Ray clusters: connecting, trusting, and submitting jobs."""
