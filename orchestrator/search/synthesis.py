"""Speech of chosen variants on further prompts, synthesised on the sweep's hosts."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from ray.actor import ActorProxy

from cluster.storage.committed import DamagedError
from jobs.spec.trial import Variant
from orchestrator.context import SweepContext
from orchestrator.errors import InfrastructureError
from orchestrator.hosts.host_actor import SlotFailedError
from orchestrator.hosts.leased_slot import HostLostError, LeasedSlot
from orchestrator.hosts.pool import HostsGoneError, Pool
from orchestrator.ledger import CONFIRMATION, SCREEN, PromptSet, shortlist_sets

_MAX_THREADS = 32
"""Each waits for a slot, and hosts have fewer."""


def synthesise_missing(
    context: SweepContext,
    pool: ActorProxy[Pool],
    variants: Sequence[Variant],
    prompt_set: PromptSet,
) -> None:
    """Commit the clips of every variant on a prompt set; clips that are there are left alone.

    Raises:
        InfrastructureError: a variant could not speak, on any host.
    """
    ledger = context.ledger()
    missing = [
        variant
        for variant in sorted(variants, key=lambda v: v.id)
        if not ledger.storage.is_committed(ledger.clips(variant.id, prompt_set))
    ]
    # A trial at a time in a slot: its epochs and decodings one after another, the scales of each
    # together.
    trials = [list(group) for _, group in groupby(missing, key=lambda v: v.trial)]

    def speak(of_trial: list[Variant]) -> None:
        slot = LeasedSlot(pool)
        of_trial.sort(key=_spoken_together)
        for _, together in groupby(of_trial, key=_spoken_together):
            _speak(context, slot, list(together), prompt_set)
        slot.release()

    with ThreadPoolExecutor(max(1, min(len(trials), _MAX_THREADS))) as threads:
        # A list, so that what one raised is raised here.
        list(threads.map(speak, trials))


def _spoken_together(variant: Variant) -> tuple[int, list[tuple[str, int | float]]]:
    return variant.epoch, sorted(variant.own_decoding.items())


def _speak(
    context: SweepContext, slot: LeasedSlot, variants: Sequence[Variant], prompt_set: PromptSet
) -> None:
    """Commit the clips of one checkpoint's scales, which decode alike."""
    first, ledger = variants[0], context.ledger()
    assert first.trial is not None  # the base is none of them
    trial = ledger.trial(first.trial).spec
    checkpoint = ledger.checkpoint(first.trial, first.epoch)
    keys = {v.lora_scale: ledger.clips(v.id, prompt_set) for v in variants}
    protocol, spec = context.protocol, context.spec
    is_fresh = prompt_set == CONFIRMATION
    decoding = protocol.confirmation_decoding if is_fresh else protocol.decoding
    decoding = decoding.at(first.own_decoding)
    sets = {
        SCREEN: protocol.screening().prompts,
        **shortlist_sets(protocol.rest_parts),
        CONFIRMATION: protocol.confirmation,
    }
    prompts = [prompt.spec for prompt in sets[prompt_set]]
    items = {SCREEN: protocol.items, CONFIRMATION: protocol.confirmation_items}.get(prompt_set, ())
    for attempt in range(spec.resources.trial_retries + 1):
        try:
            slot.attach(trial, checkpoint, alone=attempt > 0)
            slot.speak(keys, prompts, decoding, items)
        except HostLostError as error:
            reason = str(error)
        except (SlotFailedError, HostsGoneError, DamagedError) as error:
            reason = str(error)
            break
        else:
            return
    slot.release()
    raise InfrastructureError(
        f"variant {first.id} could not say the {prompt_set} prompts: {reason}. "
        "Run the same command again."
    )
