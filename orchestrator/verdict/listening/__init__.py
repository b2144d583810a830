"""From ratings of listeners to a verdict: who counts, what one panel says, and all languages."""
