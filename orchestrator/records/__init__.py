"""Views of the ledger for other tools: MLflow, its runs and its model registry."""

import os

# Before whatever imports MLflow: a sweep of somebody's voice reports to nobody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Retrying is the recorder's, which looks up what a request did that got no answer; repeated blindly
# by MLflow, "create a run" may make two.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
# Seconds, of MLflow's 120: nobody hears of a server that hangs before they are over.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# MLflow prints where a run can be seen to the output, which may be for JSON alone.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Of its progress bars none has anything to tell of files this small.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
