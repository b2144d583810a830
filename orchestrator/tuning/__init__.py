"""Where Ray Tune and Optuna meet our trials."""
