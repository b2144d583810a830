"""Models of what YAML says of a trial, its data and its metrics. No torch in here."""

EMBEDDED = "embedded"
"""Names what is shipped with the package: the base, its codec, the target voice, the prompts."""
