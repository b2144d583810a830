"""A YAML file to a valid sweep, to its inputs, and to the dry run."""
