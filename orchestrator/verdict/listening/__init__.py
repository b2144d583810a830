"""From ratings of listeners to what they make of a verdict: who counts, one panel, all languages."""
