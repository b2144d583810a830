"""What comes before the first trial: data prepared once, and the base's own speech."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cluster.storage import open_storage
from jobs.data.keys import data_key
from jobs.data.manifest import ManifestRow
from jobs.problems import InputError, Problem
from jobs.spec import BASE_VARIANT, DecodingSpec, HostSpec, PromptSpec
from orchestrator.ledger import Ledger, PromptSet


@dataclass(frozen=True)
class Prepared:
    """Digests of what all trials share."""

    base_digest: str
    data_digest: str
    encoder_digest: str

    def to_dict(self) -> dict[str, str]:
        """By name, as the protocol records them."""
        return asdict(self)


def prepare_sweep(
    host: HostSpec,
    rows: list[ManifestRow],
    speech: Mapping[PromptSet, tuple[list[PromptSpec], DecodingSpec]],
    storage_url: str,
    sweep: str,
) -> Prepared:
    """Prepare the data and have the base say the prompt sets; what is there is left alone.

    Runs in a Ray worker, because the driver loads no model.
    """
    from jobs.data.prepare import prepare
    from jobs.data.prepared import read_prepared
    from jobs.families.registry import load_base
    from jobs.speech.clips import write_clips

    storage = open_storage(storage_url)
    base = load_base(host)
    digest = prepare(rows, base, storage)
    try:
        base.meet(read_prepared(storage.fetch(data_key(digest))))
    except ValueError as error:
        hint = "Correct the manifest, or name another base."
        raise InputError([Problem("data.manifest", str(error), hint)]) from error
    for prompt_set, (prompts, decoding) in speech.items():
        key = Ledger(storage, sweep).clips(BASE_VARIANT, prompt_set)
        if not storage.is_committed(key):
            with storage.commit(key) as directory:
                write_clips(directory, prompts, base.speak(base.model, prompts, decoding))
    return Prepared(base.digest, digest, base.encoder_digest)
