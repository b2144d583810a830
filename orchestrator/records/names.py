"""Names that people gave, as MLflow takes them in the names of metrics and params."""

import re
from collections.abc import Collection

_LONGEST = 100
"""Characters; MLflow takes 250 of a whole key."""


def legal_name(name: str, taken: Collection[str]) -> str:
    """A speaker's or language's name in characters that MLflow takes, unlike those ``taken``.

    >>> legal_name("Ann B.", []), legal_name("Ann?B?", ["Ann_B_"])
    ('Ann_B_', 'Ann_B__2')
    """
    plain = re.sub(r"[^0-9A-Za-z_-]+", "_", name)[:_LONGEST] or "_"
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}_{number}"
    return found
