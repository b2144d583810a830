"""What a trial, its data and its metrics are, as written in YAML. No torch in here."""
