"""What a validation of a loss that draws noise says beside its mean. No torch in here."""

import math
import statistics
from collections.abc import Mapping, Sequence


def figures(
    clips: Sequence[tuple[float, float]], groups: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """The mean over clips, and the clips' differences to the base, which had the same noise.

    ``clip_mean`` is the mean of the clips' own means, each of which counts the same however long it
    is. ``to_base`` is the mean over clips of the difference of their means to the base's, below 0
    where the adapter is better, and ``to_base_se`` its standard error, the clips' standard
    deviation over the root of their number; both again for each of ``groups``, as
    ``to_base.language.km``. One clip alone has no standard error.

    Args:
        clips: of each clip its mean, and that of the base without an adapter.
        groups: the clips of each language, by names such as ``language/km``.

    >>> figures([(1.0, 2.0), (3.0, 4.0)], {})
    {'clip_mean': 2.0, 'to_base': -1.0, 'to_base_se': 0.0}
    """
    differences = [mean - of_base for mean, of_base in clips]
    found = {"clip_mean": statistics.fmean(mean for mean, _ in clips)}
    for suffix, members in {"": range(len(clips)), **groups}.items():
        own = [differences[clip] for clip in members]
        ending = f".{suffix.replace('/', '.')}" if suffix else ""
        found[f"to_base{ending}"] = statistics.fmean(own)
        if len(own) > 1:
            found[f"to_base_se{ending}"] = statistics.stdev(own) / math.sqrt(len(own))
    return found
