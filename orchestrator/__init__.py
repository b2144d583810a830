"""What decides: the sweep, its Ray Tune trials, Optuna study, verdict, report and records."""
