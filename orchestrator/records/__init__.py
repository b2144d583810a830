"""Views of the ledger for other tools: MLflow, its runs and its model registry."""

import os

# Before whatever imports MLflow: a sweep of somebody's voice reports to nobody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Of MLflow's own 7 retries the last waits for minutes, and a wrong address is said only after it.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
# Of its progress bars none has anything to tell of files this small.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
