"""What MLflow's failures mean: whether to try again, and how they are told."""

from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException

from orchestrator.addresses import redacted
from orchestrator.errors import InfrastructureError

_NEVER = {401, 403, 405, 501}
"""HTTP statuses that no second try changes: a login that is missing, wrong or not enough, and what
is no MLflow server."""
_REFUSED = 400
_REFUSALS = 3
"""In a row, until a refusal counts. One may come of a request that got no answer and was being
carried out while it was repeated; and 400 is what MLflow makes of most of a database's faults."""
_LONGEST = 240
"""Characters of a reason."""


class Failures:
    """The failures since something last went well."""

    def __init__(self) -> None:
        self._refusals = 0
        self.count = 0

    def forget(self) -> None:
        """Something went well."""
        self._refusals = self.count = 0

    def is_permanent(self, error: Exception) -> bool:
        """Count ``error``; whether there is no use in trying again.

        Servers and databases that do not answer, are too busy (429, 5xx, a lock) or lost a run that
        they had may be well the next time.
        """
        self.count += 1
        if isinstance(error, InfrastructureError):
            return True
        if not isinstance(error, MlflowException):
            return False
        status = ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)
        self._refusals = self._refusals + 1 if status == _REFUSED else 0
        not_mlflow = error.error_code == "ENDPOINT_NOT_FOUND"
        return status in _NEVER or not_mlflow or self._refusals >= _REFUSALS


def reason(error: Exception) -> str:
    """An error on one line, without secrets."""
    text = redacted(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
