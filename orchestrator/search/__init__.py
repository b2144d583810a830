"""The search: Optuna proposes trials, Ray Tune schedules them, hosts train them."""
