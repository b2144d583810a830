"""Views of the ledger for other tools: MLflow, its runs and its model registry."""

import os

# Set before MLflow is imported. A sweep of somebody's voice reports to nobody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Retrying is the recorder's, which looks up what a request did that got no answer; repeated blindly
# by MLflow, "create a run" may make two.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
# Seconds, of MLflow's 120: that a server hangs is noticed no sooner.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# MLflow prints where a run can be seen to the output, which may be for JSON alone.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Files as small as these need no progress bars.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
