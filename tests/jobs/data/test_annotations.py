"""What nobody says is taken out of a text; what is said stays, and what is unclear is asked."""

import pytest

from jobs.data.annotations import Spoken, pinyin_beside, spoken_part

TAKEN_OUT = {
    "<laugh> yes": "yes",
    "yes</laugh>": "yes",
    "yes <break time='1s'/> no": "yes no",
    "<emphasis level='strong'>very</emphasis> good": "very good",
    "[laugh] yes [...] no": "yes no",
    "[BLANK_AUDIO] yes": "yes",
    "[pause 0.5s] yes": "yes",
    "yes 【笑】 no": "yes no",
    "yes (laughs) no": "yes no",
    "yes (Laughing softly) no": "yes no",
    "(clears throat) yes": "yes",
    "yes [background music]": "yes",
    "yes （笑い）": "yes",
    "ja [seufzt leise] nein": "ja nein",
    "oui [bruit de fond] non": "oui non",
    "sí (risas) no": "sí no",
    "да (смех) нет": "да нет",
    "네 (웃음) 아니요": "네 아니요",
    "*sigh* yes": "yes",
    "well **clears throat**, yes": "well, yes",
    "{noise}yes": "yes",
    "Oh <laugh>, no [cough]!": "Oh, no!",
    "<laugh>": "",
}
FREED = {
    "I *really* do not want": "I really do not want",
    "I **really do not** want": "I really do not want",
    "I _really_ do not": "I really do not",
    "*Never!* he said": "Never! he said",
}
UNCLEAR = ["{one, two, three}", "press [Enter] now", "[door slams]", "<Enter>", "I said *silence*!"]
MENTIONED = ["(the music business)", "(in complete silence)", "(laughs at the joke)"]
LOST = ["[inaudible] yes", "yes (unintelligible)", "<unk> yes", "【听不清】"]
LEFT = [
    "yes (he said) no",
    "he was (mumbling as ever) there",
    "2 < 3 and 5 > 4",
    "2*3*4 is 24",
    "a * b * c",
    "the music (by J. S. Bach) plays",
    "f(x) is 3",
    "5 > 4 < 6",
    "snake_case_names stay",
    "I ♥ you",
    "ភាសាខ្មែរ",
    "",
]


@pytest.mark.parametrize(("text", "rest"), TAKEN_OUT.items())
def test_an_annotation_is_taken_out(text: str, rest: str):
    found = spoken_part(text)
    assert found.text == rest
    assert found.removed
    assert found == Spoken(rest, removed=found.removed)
    assert spoken_part(rest) == Spoken(rest)


@pytest.mark.parametrize(("text", "rest"), FREED.items())
def test_emphasis_keeps_its_words(text: str, rest: str):
    found = spoken_part(text)
    assert found == Spoken(rest, freed=found.freed)
    assert len(found.freed) == 1


@pytest.mark.parametrize("text", UNCLEAR)
def test_what_may_be_either_is_left_and_named(text: str):
    found = spoken_part(text)
    assert found == Spoken(text, unclear=found.unclear)
    assert found.unclear[0] in text


@pytest.mark.parametrize("text", MENTIONED)
def test_speech_in_round_brackets_that_names_a_sound_is_left_and_named(text: str):
    assert spoken_part(text) == Spoken(text, mentioned=(text,))


@pytest.mark.parametrize("text", LOST)
def test_an_annotation_that_stands_for_words_is_named(text: str):
    found = spoken_part(text)
    assert found == Spoken(text, lost=found.lost)
    assert found.lost


@pytest.mark.parametrize("text", LEFT)
def test_what_is_said_stays(text: str):
    assert spoken_part(text) == Spoken(text)


def test_nested_brackets_are_told_from_inside():
    assert spoken_part("[a [laugh] c] yes") == Spoken(
        "[a c] yes", removed=("[laugh]",), unclear=("[a   c]",)
    )


def test_what_is_named_as_spoken_or_silent_is():
    text = "press [Enter], [door slams] and [Door  creaks] *silence*"
    found = spoken_part(text, spoken=["enter", "silence"], silent=["door *"])
    assert found.text == "press Enter, and silence"
    assert found.removed == ("[door slams]", "[Door  creaks]")
    assert found.freed == ("[Enter]", "*silence*")
    assert spoken_part("[a] {b}", spoken=["*"]).text == "a b"


@pytest.mark.parametrize(
    ("text", "pinyin"),
    [
        ("广 guang3 州 zhou1", ["guang3", "zhou1"]),
        ("女nü3人ren2，好", ["nü3", "ren2"]),
        ("好 hao3", ["hao3"]),
        ("我们去b3出口，走吧", []),
        ("他有一个 mp3 播放器", []),
        ("guang3 zhou1", []),
        ("广州", []),
    ],
)
def test_pinyin_beside_the_characters_is_found(text: str, pinyin: list[str]):
    assert pinyin_beside(text) == pinyin
