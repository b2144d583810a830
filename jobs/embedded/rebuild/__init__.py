"""Makes the shipped assets again; see `python -m jobs.embedded.rebuild --help`."""
