"""What in a text is not spoken: annotations and markup, told apart from speech in brackets."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from jobs.data.texts import normalise_text

_SOUNDS = {
    "en": "laugh laughs laughed laughing laughter chuckle chuckles chuckled chuckling giggle "
    "giggles giggled giggling snicker snickers sigh sighs sighed sighing cough coughs coughed "
    "coughing sneeze sneezes sneezing breath breaths breathes breathing inhale inhales inhaling "
    "exhale exhales exhaling gasp gasps gasped gasping sniff sniffs sniffing sniffle sniffles "
    "sob sobs sobbing cry cries crying weep weeps weeping groan groans groaning moan moans "
    "moaning yawn yawns yawning whisper whispers whispered whispering hum hums humming grunt "
    "grunts grunting pant pants panting snore snores snoring hiccup hiccups burp burps gulp "
    "gulps scream screams screaming shout shouts shouting throat lip lips smack smacks lipsmack "
    "applause clapping cheering music noise noises silence static pause pauses beep beeps click "
    "clicks sil spn nsn",
    "de": "lacht lachen lachend seufzt seufzen seufzend hustet husten hustend räuspert räuspern "
    "atmet atmen einatmen ausatmen gähnt gähnen weint weinen weinend schluchzt schluchzen "
    "flüstert flüstern flüsternd stöhnt stöhnen kichert kichern niest niesen musik applaus "
    "stille geräusch geräusche rauschen",
    "fr": "rire rires rit soupir soupirs soupire tousse toux respire respiration bâille pleure "
    "pleurs sanglot sanglots chuchote chuchotement musique applaudissements bruit bruits",
    "es": "risa risas ríe riendo suspira suspiro tose tos respira respiración bosteza llora "
    "llorando solloza sollozos susurra susurrando música aplausos silencio pausa ruido ruidos",
    "it": "ride risata risate sospira sospiro tossisce tosse respiro sbadiglia piange musica "
    "applausi silenzio rumore rumori",
    "pt": "risos risada risadas ri boceja chora música aplausos silêncio ruído ruídos",
    "ru": "смех смеётся смеется вздох вздыхает кашель кашляет дышит зевает плачет шепчет шёпот "
    "музыка аплодисменты тишина пауза шум",
    "zh": "笑 笑声 笑聲 大笑 轻笑 輕笑 叹气 嘆氣 叹息 嘆息 咳嗽 咳 呼吸 吸气 吸氣 呼气 呼氣 "
    "喘气 喘氣 哭 哭泣 抽泣 哈欠 打哈欠 低语 低語 耳语 耳語 音乐 音樂 掌声 掌聲 鼓掌 静音 靜音 "
    "沉默 停顿 停頓 噪音 清嗓子",
    "ja": "笑 笑い 笑う 笑い声 ため息 溜息 咳 咳払い 息 深呼吸 あくび 泣き声 ささやき くしゃみ "
    "音楽 拍手 沈黙 無音 雑音",
    "ko": "웃음 웃음소리 웃으며 한숨 기침 숨 숨소리 하품 울음 흐느낌 속삭임 음악 박수 박수소리 "
    "침묵 정적 잡음",
    "km": "សើច ក្អក ដកដង្ហើម តន្ត្រី ទះដៃ យំ",
}
"""By language, the words for sounds that are no speech. All count in every text: annotators write
English in any language, and few manifests say theirs."""
_MANNERS = {
    "en": "soft softly loud loudly quiet quietly heavy heavily deep deeply nervous nervously "
    "slight slightly brief briefly short long background faint faintly light lightly gentle "
    "gently bitter bitterly sad sadly hysterically awkward awkwardly clears clearing tongue "
    "playing blank audio",
    "de": "leise laut tief kurz schwer sich ein aus nervös",
    "fr": "doucement fort profond profondément nerveux nerveusement de fond",
    "es": "suave suavemente fuerte profundo profundamente nervioso nerviosamente se fondo",
}
"""By language, the words that may stand beside one of :data:`_SOUNDS`."""
_LOST_WORDS = (
    "inaudible unintelligible indistinct unk crosstalk mumbling unverständlich unhörbar "
    "incompréhensible ininteligible incomprensibile inaudível ininteligível неразборчиво 听不清 "
    "聽不清 聞き取れない 聞き取り不能 들리지않음"
)
_LOST = frozenset(_LOST_WORDS.split())
"""Words of annotations that stand for speech nobody wrote down."""
_NO_EMPHASIS_WORDS = (
    "music noise noises silence static pause pauses click clicks beep beeps cry whisper shout "
    "scream applause musik stille musique bruit música silencio pausa ruido"
)
_NO_EMPHASIS = frozenset(_NO_EMPHASIS_WORDS.split())
"""Sounds that a speaker may name, so that between asterisks they are asked about."""
_MARKUP_WORDS = (
    "speak p s w token break emphasis prosody phoneme say-as sub voice audio mark lang lexicon "
    "metadata desc xml b i u em strong span br font"
)
_MARKUP = frozenset(_MARKUP_WORDS.split())
"""Elements of SSML and HTML: the tag goes, what it holds stays."""
_MOST_WORDS = 5
_SECONDS = re.compile(r"\d+(?:s|ms|sec)?")
"""How long, as in ``[pause 0.5s]``."""

_MARK = re.compile(
    r"<(?P<tag>[/!?]?[A-Za-z][^<>]*|!--[^<>]*--)>"
    r"|\[(?P<square>[^\[\]]*)\]"
    r"|【(?P<lens>[^【】]*)】"
    r"|\{(?P<curly>[^{}]*)\}"
    r"|[(（](?P<round>[^()（）]*)[)）]"
    r"|(?<!\w)(?P<stars>\*+)(?P<starred>[^*\s](?:[^*]*[^*\s])?)(?P=stars)(?!\w)"
    r"|(?<!\w)(?P<lines>_+)(?P<lined>[^_\s](?:[^_]*[^_\s])?)(?P=lines)(?!\w)"
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_BESIDE = re.compile(rf"{_HAN.pattern}\s*([a-zü]+[1-5])(?![a-z0-9])")
_KEPT = str.maketrans("<>[]{}()（）【】*_", "".join(map(chr, range(0xFDD0, 0xFDDE))))
"""What is kept is put out of the pattern's reach, in code points that are no characters."""
_BACK = {kept: mark for mark, kept in _KEPT.items()}
_BEFORE_PUNCTUATION = re.compile(r"\s+(?=[,.!?;:…])")


@dataclass(frozen=True)
class Spoken:
    """What is spoken of a text, and what was found in it."""

    text: str
    """Without what is known not to be spoken."""
    removed: tuple[str, ...] = ()
    """Annotations and markup, as written."""
    freed: tuple[str, ...] = ()
    """Words whose marks of emphasis, or whose brackets, were taken off."""
    unclear: tuple[str, ...] = ()
    """What may be spoken or not; left as it is."""
    mentioned: tuple[str, ...] = ()
    """Round brackets that name a sound beside other words; left as they are, as speech."""
    lost: tuple[str, ...] = ()
    """Annotations that say that words are missing; left as they are."""


def pinyin_beside(text: str) -> list[str]:
    """The pinyin of a text that has it beside half of its characters or more, as AISHELL-3 does."""
    found = _BESIDE.findall(text)
    return found if 2 * len(found) >= max(2, len(_HAN.findall(text))) else []


def spoken_part(text: str, spoken: Sequence[str] = (), silent: Sequence[str] = ()) -> Spoken:
    """``text`` without annotations.

    What stands in brackets is an annotation only if all of it is one, in words of any language of
    :data:`_SOUNDS`; emphasis keeps its words; round brackets are speech otherwise, all other
    brackets unclear.

    Args:
        spoken: patterns of :mod:`fnmatch` for what in brackets or between asterisks is spoken,
            without regard to case.
        silent: the same for what is not.
    """
    found: dict[str, list[str]] = {
        key: [] for key in ("removed", "freed", "unclear", "mentioned", "lost")
    }

    def replace(match: re.Match[str]) -> str:
        kind, content = next(
            (kind, part)
            for kind, part in match.groupdict().items()
            if part is not None and kind not in {"stars", "lines"}
        )
        fate = _fate(kind, content, spoken, silent)
        if fate != "kept":
            found[fate].append(match.group().translate(_BACK))
        if fate == "removed":
            return " "
        return content if fate == "freed" else match.group().translate(_KEPT)

    while (shorter := _MARK.sub(replace, text)) != text:
        text = shorter
    text = text.translate(_BACK)
    if found["removed"] or found["freed"]:
        text = _BEFORE_PUNCTUATION.sub("", " ".join(text.split()))
    return Spoken(text, **{key: tuple(values) for key, values in found.items()})


def _fate(kind: str, content: str, spoken: Sequence[str], silent: Sequence[str]) -> str:
    """``kept``, or the list of :class:`Spoken` that a bracket with ``content`` belongs to."""
    plain = content.strip().casefold()
    if any(fnmatchcase(plain, pattern.casefold()) for pattern in silent):
        return "removed"
    if any(fnmatchcase(plain, pattern.casefold()) for pattern in spoken):
        return "freed"
    words = normalise_text(content).split()
    if "".join(words) in _LOST or (_LOST & set(words) and _ALL_WORDS.union(_LOST) >= set(words)):
        return "freed" if kind in {"starred", "lined"} else "lost"
    if kind == "tag":
        name = re.split(r"[\s/>]", content.strip("/!?- ").casefold())[0]
        return "removed" if name in _MARKUP or content[0] == "!" or _is_sound(words) else "unclear"
    if kind in {"starred", "lined"}:
        if not words:
            return "kept"
        if not _is_sound(words):
            return "freed"
        return "unclear" if len(words) == 1 and words[0] in _NO_EMPHASIS else "removed"
    if not words or _is_sound(words):
        return "kept" if kind == "round" and not words else "removed"
    if kind == "round":
        return "mentioned" if _ALL_SOUNDS & set(words) else "kept"
    return "unclear"


def _is_sound(words: Sequence[str]) -> bool:
    """Whether all the words name a sound and its manner."""
    return (
        len(words) <= _MOST_WORDS
        and any(word in _ALL_SOUNDS for word in words)
        and all(word in _ALL_WORDS or _SECONDS.fullmatch(word) for word in words)
    ) or words == ["blank", "audio"]


def _words(lists: dict[str, str]) -> Iterator[str]:
    for line in lists.values():
        yield from (normalise_text(word) for word in line.split())


_ALL_SOUNDS = frozenset(_words(_SOUNDS))
_ALL_WORDS = _ALL_SOUNDS.union(_words(_MANNERS))
