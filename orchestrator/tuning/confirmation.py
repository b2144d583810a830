"""Having the finalists say prompt set B, on the hosts that trained them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jobs.spec import DecodingSpec, PromptSpec, Variant
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import CONFIRMATION
from orchestrator.tuning.host_actor import SlotFailedError
from orchestrator.tuning.pool import HostsGoneError
from orchestrator.tuning.slot import HostLostError, LeasedSlot
from orchestrator.tuning.trial import SweepContext


def speak_confirmation(
    context: SweepContext,
    pool: Any,  # noqa: ANN401 (an actor handle)
    finalists: Sequence[Variant],
) -> None:
    """Commit the clips of set B of every finalist; what is there already is left alone.

    Raises:
        InfrastructureError: a finalist could not be heard, on any host.
    """
    prompts = [prompt.spec for prompt in context.protocol.confirmation]
    decoding = context.spec.confirmation_decoding

    def speak(finalist: Variant) -> None:
        if not context.ledger().storage.is_committed(_key(context, finalist)):
            _speak(context, LeasedSlot(pool), finalist, prompts, decoding)

    with ThreadPoolExecutor(max(1, len(finalists))) as threads:
        # A list, so that what one raised is raised here.
        list(threads.map(speak, finalists))


def _speak(
    context: SweepContext,
    slot: LeasedSlot,
    finalist: Variant,
    prompts: Sequence[PromptSpec],
    decoding: DecodingSpec,
) -> None:
    assert finalist.trial is not None  # the base is no finalist
    ledger = context.ledger()
    trial = ledger.trial(finalist.trial).spec
    checkpoint = ledger.checkpoint(finalist.trial, finalist.epoch)
    for attempt in range(context.spec.resources.trial_retries + 1):
        try:
            slot.attach(trial, checkpoint, alone=attempt > 0)
            slot.speak({finalist.lora_scale: _key(context, finalist)}, prompts, decoding)
        except HostLostError as error:
            reason = str(error)
        except (SlotFailedError, HostsGoneError) as error:
            reason = str(error)
            break
        else:
            slot.release()
            return
    raise InfrastructureError(
        f"finalist {finalist.id} could not say set B: {reason}. Run the same command again."
    )


def _key(context: SweepContext, finalist: Variant) -> str:
    return context.ledger().clips(finalist.id, CONFIRMATION)
