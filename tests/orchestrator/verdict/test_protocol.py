"""A protocol that cannot be judged by is refused before anything is scored."""

import pytest
from pydantic import ValidationError

from jobs.spec.trial import PromptSpec
from orchestrator.verdict.confirm import differing_keys
from orchestrator.verdict.protocol import Constraint, MetricVersion, Prompt, Protocol


def test_the_digest_ignores_the_order_of_digests_and_sees_every_other_change(make_protocol):
    digests = {"base": "sha256:1", "codec": "sha256:2"}
    one = make_protocol(family_digests=digests)
    turned = make_protocol(family_digests=dict(reversed(digests.items())))
    assert one.digest() == turned.digest()
    assert one.digest() != make_protocol(family_digests=digests, min_effect=0.11).digest()


def test_a_stored_protocol_reads_back_with_its_digest(make_protocol):
    protocol = make_protocol()
    assert Protocol.model_validate_json(protocol.model_dump_json()).digest() == protocol.digest()


def test_all_problems_are_reported_together(make_protocol):
    healthy = make_protocol()
    with pytest.raises(ValidationError) as caught:
        make_protocol(
            primary="duration",
            constraints=(Constraint(metric="word_eror", margin=0.1),),
            metrics=tuple(m for m in healthy.metrics if m.name != "clipping"),
            prompts=healthy.prompts + healthy.prompts[:1],
            finalist_metrics=("tail_silence",),
        )
    message = str(caught.value)
    assert "primary has a better direction, got 'duration'" in message
    assert "constraints[0].metric is a measured metric, got 'word_eror'" in message
    assert "what the gates read is a measured metric, got 'clipping'" in message
    assert "a prompt's id is used once in sets A and B, got 'p0' twice: rename one" in message
    assert "not kept for finalists, got 'tail_silence'" in message


def test_bounds_are_in_order(make_protocol):
    healthy = make_protocol()
    upside_down = healthy.metrics[0].model_copy(update={"low": 5.0, "high": 1.0})
    with pytest.raises(ValidationError, match=r"low is below its high, got \[5.0, 1.0\]"):
        make_protocol(metrics=(upside_down, *healthy.metrics[1:]))


def test_ratios_are_judged_only_with_what_they_divide(make_protocol):
    healthy = make_protocol()
    rate = (Constraint(metric="rate_ratio", margin=0.1),)
    assert make_protocol(constraints=rate).judged_metrics()["rate_ratio"].direction == "neither"
    without = tuple(m for m in healthy.metrics if m.name != "speaking_rate")
    with pytest.raises(ValidationError, match="got 'rate_ratio'"):
        make_protocol(constraints=rate, metrics=without)


def test_set_b_has_other_texts_and_enough_of_them(make_protocol):
    healthy = make_protocol()
    again = Prompt(id="c9", text="  text 2. ")
    with pytest.raises(ValidationError) as caught:
        make_protocol(confirmation=(*healthy.confirmation[:4], again))
    message = str(caught.value)
    assert (
        "set B has texts that set A has not, got '  text 2. ' at 'c9' and 'Text 2.' at 'p2' (the "
        "same but for case, punctuation, spaces, or digits and number words): write another text"
    ) in message
    # Two finalists at 0.05: five prompts give no p below 1/32 = 0.031, six give 0.016.
    assert "2 finalists at significance 0.05 need 6 prompts in set B, got 5" in message


SENTENCE = "Glue the sheet to the dark blue background"


def test_near_duplicates_are_refused_between_the_sets_and_count_as_one_within(make_protocol):
    healthy = make_protocol()
    again = Prompt(id="p9", text=f"{SENTENCE} again")
    copies = tuple(Prompt(id=f"d{i}", text=f"{SENTENCE}, {i}") for i in range(20))
    with pytest.raises(ValidationError) as caught:
        make_protocol(prompts=(*healthy.prompts, again), confirmation=copies)
    message = str(caught.value)
    assert message.count("of their character trigrams in common): write another text") == 20
    assert f"got '{SENTENCE}, 7' at 'd7' and '{SENTENCE} again' at 'p9' (" in message
    assert "need 6 prompts in set B, got 20 that count as 1: add prompts" in message
    rule = make_protocol(confirmation=(*healthy.confirmation, *copies)).confirming()
    assert rule.texts == (*range(8), *[8] * 20)


@pytest.mark.parametrize("twin", ["Te\u200bxt 2", "te\u0301xt 2"])
def test_what_is_not_seen_does_not_make_another_text(make_protocol, twin):
    healthy = make_protocol()
    of_a = Prompt(id="p9", text="T\u00e9xt 2")
    with pytest.raises(ValidationError, match="set B has texts that set A has not"):
        make_protocol(
            prompts=(*healthy.prompts, of_a),
            confirmation=(*healthy.confirmation, Prompt(id="c9", text=twin)),
        )


def test_set_b_has_its_own_seed_and_intervals_enough_draws(make_protocol):
    with pytest.raises(ValidationError, match="set B has a seed of its own, got 7 as seed and"):
        make_protocol(confirmation_seed=7)
    with pytest.raises(ValidationError, match="greater than or equal to 1000"):
        make_protocol(bootstrap_resamples=999)


def test_a_language_or_speaker_is_named_throughout_and_has_prompts_enough(make_protocol):
    healthy = make_protocol()
    named = [
        prompt.model_copy(update={"language": "ko" if i < 2 else "en", "speaker": "ann"})
        for i, prompt in enumerate(healthy.confirmation)
    ]
    named[5] = named[5].model_copy(update={"speaker": None})
    with pytest.raises(ValidationError) as caught:
        make_protocol(confirmation=tuple(named))
    message = str(caught.value)
    assert (
        "each language has a verdict of its own, which needs 6 prompts in set B, got 2 of"
        in message
    )
    assert "a speaker is named by all prompts of set B or by none, got 1 without" in message


def test_groups_are_the_languages_and_speakers_of_which_there_are_several(make_protocol):
    prompts = tuple(
        Prompt(id=f"c{i}", text=f"Fresh {i}.", language=("en", "km")[i % 2], speaker="ann")
        for i in range(12)
    )
    groups = make_protocol(confirmation=prompts).confirming().groups()
    assert list(groups) == [("language", "en"), ("language", "km")]
    assert [p.id for p in groups["language", "km"].prompts] == [f"c{i}" for i in range(1, 12, 2)]
    assert make_protocol().confirming().groups() == {}


def test_a_prompt_is_spoken_with_its_language_and_speaker():
    prompt = Prompt(id="a", text="one", language="km", speaker="Sokha")
    assert prompt.spec == PromptSpec(id="a", text="one", language="km", speaker="Sokha")


def test_confirming_is_the_same_rule_over_set_b(make_protocol):
    protocol = make_protocol(finalist_metrics=("speaking_rate",))
    fresh = protocol.confirming()
    assert (fresh.prompts, fresh.seed) == (protocol.confirmation, 8)
    assert fresh.finalist_metrics == ()
    assert (fresh.primary, fresh.gates) == (protocol.primary, protocol.gates)


def test_a_sweep_goes_on_under_its_protocol_grown_in_what_changes_no_score(make_protocol):
    begun = make_protocol(finalists=1).model_copy(update={"confirmed_before": ("v",)})
    grown = make_protocol(finalists=2, lora_scales=(0.0, 0.5, 1.0))
    assert grown.continued_from(begun) == grown.model_copy(update={"confirmed_before": ("v",)})
    assert make_protocol(min_effect=0.11).continued_from(begun) is None
    assert make_protocol(finalists=1).continued_from(begun) == begun


def test_prompts_may_be_added_to_set_a(make_protocol):
    more = tuple(Prompt(id=f"more-{i}", text=f"more of {i}") for i in range(3))
    begun = make_protocol(shortlist_after=4)
    spoken = begun.rest

    def with_more(count):
        return begun.model_copy(update={"prompts": (*begun.prompts, *more[:count])})

    once = with_more(1).continued_from(begun)
    twice = with_more(3).continued_from(once)
    assert with_more(3).continued_from(twice) == twice
    had = len(begun.prompts)
    assert (once.added_after, twice.added_after) == ((had,), (had, had + 1))
    assert [*map(tuple, twice.rest_parts)] == [spoken, more[:1], more[1:]]
    assert twice.rest == (*spoken, *more)
    assert twice.screening().prompts == begun.screening().prompts
    assert once.continued_from(twice) is None  # prompts were taken away
    first, second, *others = begun.prompts
    swapped = begun.model_copy(update={"prompts": (second, first, *others, *more)})
    assert swapped.continued_from(begun) is None
    assert twice.digest() != once.digest() != begun.digest()
    assert differing_keys(begun, twice) == ()
    assert differing_keys(begun, swapped) == ("prompts",)


def test_keys_that_came_later_count_when_they_are_used(make_protocol):
    protocol = make_protocol()
    digests = {
        protocol.model_copy(update=change).digest()
        for change in (
            {},
            {"top_p": 0.9},
            {"repetition_penalty": 1.05},
            {"max_tokens": 9},
            {"cfg_value": 1.5},
            {"inference_timesteps": 20},
            {"confirmed_before": ("v",)},
        )
    }
    assert len(digests) == 7


def test_a_failed_clip_counts_as_the_worse_bound():
    bounds = {"unit": "x", "version": "1", "low": 1.0, "high": 5.0}
    assert MetricVersion(name="a", direction="higher", **bounds).worst == 1.0
    assert MetricVersion(name="a", direction="lower", **bounds).worst == 5.0


def test_replicates_may_be_asked_for_later_and_are_part_of_the_rule(make_protocol):
    begun, grown = make_protocol(), make_protocol(confirm_seeds=3)
    assert grown.continued_from(begun) == grown
    assert grown.digest() != begun.digest()
    assert make_protocol(confirm_seeds=0).digest() == begun.digest()


@pytest.mark.parametrize("count", [1, 2])
def test_replicates_that_are_too_few_to_decide_are_refused(make_protocol, count):
    with pytest.raises(ValueError, match=f"confirm_seeds is 0 or at least 3, got {count}"):
        make_protocol(confirm_seeds=count)
