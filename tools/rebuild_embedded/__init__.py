"""Makes the shipped assets again; see `python -m tools.rebuild_embedded --help`."""
