"""What a trial, its data and its metrics are, as written in YAML. No torch in here."""

EMBEDDED = "embedded"
"""Names what is shipped with the package: the base, its codec, the target voice, the prompts."""
