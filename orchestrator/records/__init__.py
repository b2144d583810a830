"""Views of the ledger for other tools: MLflow."""
