"""Where sweeps are kept: a directory, or a prefix of an S3 bucket."""
