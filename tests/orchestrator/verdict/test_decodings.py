"""Decodings are tried on set A alone, for the base and for the best checkpoints by one rule."""

import pytest

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.decodings import BaseDecoding, bases, choose_base_decoding, redecoded
from orchestrator.verdict.judge import judge
from orchestrator.verdict.table import ScoreTable

POINTS = ({"temperature": 0.8}, {"temperature": 0.4}, {"temperature": 1.2})
"""The first is the sweep's; see :func:`make_protocol`."""
GAIN = [3.3, 3.4, 3.35, 3.45]


@pytest.fixture
def rule(make_protocol):
    return make_protocol(decodings=POINTS)


@pytest.fixture
def choose(rule, speak):
    """The base's decoding, by the scores with each."""

    def by(**scores):
        infos = bases(POINTS)
        rows = [
            row
            for info, of in zip(infos, scores.values(), strict=True)
            for row in speak(info.id, **of)
        ]
        comparison = Comparison(ScoreTable.build(infos, rows, rule), rule)
        return choose_base_decoding(comparison, comparison)

    return by


def test_the_base_decodes_with_what_gains_and_keeps_the_rule(choose):
    found = choose(own={}, colder={"p808": GAIN}, hotter={"p808": [3.1]})
    assert found.chosen == POINTS[1]
    assert [each.decoding for each in found.tried] == [*POINTS]
    assert [each.gain.mean for each in found.tried] == pytest.approx([0, 0.375, 0.1])
    assert BaseDecoding.from_json(found.to_json()) == found


def test_the_base_keeps_the_decoding_of_the_spec_where_none_gains(choose):
    assert choose(own={}, colder={"p808": [2.9]}, hotter={}).chosen == POINTS[0]


def test_the_base_takes_no_gain_that_breaks_a_rule(choose):
    broken = {"p808": [4.0], "speaker_similarity": [0.5]}
    runaway = {"p808": [4.0], "tail_silence": [9.0]}
    found = choose(own={}, colder=broken, hotter=runaway)
    assert found.chosen == POINTS[0]
    assert found.tried[2].failed == 4


@pytest.fixture
def verdict_of(rule, info, base, speak):
    """The verdict of one checkpoint whose decodings score so on sets A and B."""

    def judged(colder, hotter, fresh, **changes):
        protocol = rule.model_copy(update=changes)
        own = info("t000000000000-e01-s1.00", trial="t000000000000")
        others = redecoded([own], protocol)
        rows = [*speak(BASE_VARIANT), *speak(own.id, p808=[3.05])]
        for each, scores in zip(others, (colder, hotter), strict=True):
            rows += speak(each.id, **scores) if scores is not None else []
        screen = ScoreTable.build([base, own, *others], rows, protocol.screening())
        names = [own.id, *(each.id for each in others)]
        rows = [
            *speak(BASE_VARIANT, of="c"),
            *(r for n in names for r in speak(n, of="c", **fresh)),
        ]
        confirmation = ScoreTable.build([base, own, *others], rows, protocol.confirming())
        return judge(screen, confirmation, protocol), [own, *others]

    return judged


def test_a_finalist_is_a_checkpoint_at_a_scale_with_a_decoding(verdict_of):
    verdict, (own, colder, _) = verdict_of({"p808": GAIN}, {}, {"p808": GAIN})
    assert [each.row.id for each in verdict.confirmed] == [colder.id]
    assert verdict.variant == colder.id
    assert colder.id.startswith(f"{own.id}-d")
    assert "at lora_scale 1 and temperature 0.4" in verdict.sentence
    assert verdict.row(own.id).standing != "winner"


def test_a_decoding_that_breaks_a_rule_is_no_finalist(verdict_of):
    broken = {"p808": [4.5], "speaker_similarity": [0.5]}
    verdict, (own, *_) = verdict_of(broken, {}, {"p808": GAIN})
    assert [each.row.id for each in verdict.confirmed] == [own.id]


def test_a_gain_of_decoding_that_set_b_does_not_show_promotes_nothing(verdict_of):
    verdict, _ = verdict_of({"p808": GAIN}, {}, {})
    assert verdict.verdict == "DO-NOT-FINE-TUNE"


def test_without_the_scores_of_a_decoding_there_is_no_verdict(verdict_of):
    verdict, (_, _, hotter) = verdict_of({"p808": GAIN}, None, {"p808": GAIN})
    assert verdict.verdict == "NO-VERDICT"
    assert hotter.id in verdict.sentence


def test_loss_is_asked_only_of_what_the_search_trained(verdict_of):
    verdict, (own, *_) = verdict_of({"p808": GAIN}, {}, {"p808": GAIN})
    assert (verdict.loss.lowest, verdict.loss.variants) == (own.id, 1)


def test_what_is_tried_is_halved_over_the_prompts_of_set_a(make_protocol, info, base, speak):
    """A third of what was tried, two at least, and no more, are judged on the rest."""
    protocol = make_protocol(length=8, decodings=POINTS, shortlist_after=4, min_effect=0.01)
    own = info("t000000000000-e01-s1.00", trial="t000000000000")
    colder, hotter = redecoded([own], protocol)
    names = [own.id, colder.id, hotter.id]
    means = dict(zip(names, ([3.1], [3.4], [2.0]), strict=True))

    def table(rule, names, prompts, of="p"):
        infos = [each for each in (own, colder, hotter) if each.id in names]
        rows = [*speak(BASE_VARIANT, prompts, of=of)]
        rows += [row for n in names for row in speak(n, prompts, of=of, p808=means[n])]
        return ScoreTable.build([base, *infos], rows, rule)

    screen = table(protocol.screening(), names, 4)
    confirmation = table(protocol.confirming(), names, 16, of="c")
    verdict = judge(screen, confirmation, protocol, table(protocol, names[:2], 8))
    assert [row.id for row in verdict.shortlisted] == names[:2]
    assert verdict.variant == colder.id
    assert verdict.row(hotter.id).standing == "rejected"


def test_a_protocol_of_before_has_the_digest_that_it_had(make_protocol):
    protocol = make_protocol()
    assert protocol.digest() == protocol.model_copy(update={"decodings": ()}).digest()
    assert protocol.digest() != make_protocol(decodings=POINTS).digest()
