"""Language tags: what people write for a language, as BCP 47 (RFC 5646) has it."""

import difflib
import re
from functools import lru_cache

_ISO_639 = (
    "aa aar Afar; ab abk Abkhazian; ae ave Avestan; af afr Afrikaans; ak aka Akan; am amh "
    "Amharic; an arg Aragonese; ar ara Arabic; as asm Assamese; av ava Avaric; ay aym Aymara; az "
    "aze Azerbaijani; ba bak Bashkir; be bel Belarusian; bg bul Bulgarian; bi bis Bislama; bm bam "
    "Bambara; bn ben Bengali; bo bod Tibetan; br bre Breton; bs bos Bosnian; ca cat Catalan; ce "
    "che Chechen; ch cha Chamorro; co cos Corsican; cr cre Cree; cs ces Czech; cu chu Church "
    "Slavic; cv chv Chuvash; cy cym Welsh; da dan Danish; de deu German; dv div Divehi; dz dzo "
    "Dzongkha; ee ewe Ewe; el ell Greek; en eng English; eo epo Esperanto; es spa Spanish; et est "
    "Estonian; eu eus Basque; fa fas Persian; ff ful Fulah; fi fin Finnish; fj fij Fijian; fo fao "
    "Faroese; fr fra French; fy fry Western Frisian; ga gle Irish; gd gla Scottish Gaelic; gl glg "
    "Galician; gn grn Guarani; gu guj Gujarati; gv glv Manx; ha hau Hausa; he heb Hebrew; hi hin "
    "Hindi; ho hmo Hiri Motu; hr hrv Croatian; ht hat Haitian; hu hun Hungarian; hy hye Armenian; "
    "hz her Herero; ia ina Interlingua; id ind Indonesian; ie ile Interlingue; ig ibo Igbo; ii "
    "iii Sichuan Yi; ik ipk Inupiaq; io ido Ido; is isl Icelandic; it ita Italian; iu iku "
    "Inuktitut; ja jpn Japanese; jv jav Javanese; ka kat Georgian; kg kon Kongo; ki kik Kikuyu; "
    "kj kua Kuanyama; kk kaz Kazakh; kl kal Greenlandic; km khm Khmer; kn kan Kannada; ko kor "
    "Korean; kr kau Kanuri; ks kas Kashmiri; ku kur Kurdish; kv kom Komi; kw cor Cornish; ky kir "
    "Kyrgyz; la lat Latin; lb ltz Luxembourgish; lg lug Ganda; li lim Limburgish; ln lin Lingala; "
    "lo lao Lao; lt lit Lithuanian; lu lub Luba-Katanga; lv lav Latvian; mg mlg Malagasy; mh mah "
    "Marshallese; mi mri Maori; mk mkd Macedonian; ml mal Malayalam; mn mon Mongolian; mr mar "
    "Marathi; ms msa Malay; mt mlt Maltese; my mya Burmese; na nau Nauru; nb nob Norwegian "
    "Bokmål; nd nde North Ndebele; ne nep Nepali; ng ndo Ndonga; nl nld Dutch; nn nno Norwegian "
    "Nynorsk; no nor Norwegian; nr nbl South Ndebele; nv nav Navajo; ny nya Chichewa; oc oci "
    "Occitan; oj oji Ojibwa; om orm Oromo; or ori Odia; os oss Ossetian; pa pan Punjabi; pi pli "
    "Pali; pl pol Polish; ps pus Pashto; pt por Portuguese; qu que Quechua; rm roh Romansh; rn "
    "run Rundi; ro ron Romanian; ru rus Russian; rw kin Kinyarwanda; sa san Sanskrit; sc srd "
    "Sardinian; sd snd Sindhi; se sme Northern Sami; sg sag Sango; si sin Sinhala; sk slk Slovak; "
    "sl slv Slovenian; sm smo Samoan; sn sna Shona; so som Somali; sq sqi Albanian; sr srp "
    "Serbian; ss ssw Swati; st sot Southern Sotho; su sun Sundanese; sv swe Swedish; sw swa "
    "Swahili; ta tam Tamil; te tel Telugu; tg tgk Tajik; th tha Thai; ti tir Tigrinya; tk tuk "
    "Turkmen; tl tgl Tagalog; tn tsn Tswana; to ton Tonga; tr tur Turkish; ts tso Tsonga; tt tat "
    "Tatar; tw twi Twi; ty tah Tahitian; ug uig Uyghur; uk ukr Ukrainian; ur urd Urdu; uz uzb "
    "Uzbek; ve ven Venda; vi vie Vietnamese; vo vol Volapük; wa wln Walloon; wo wol Wolof; xh xho "
    "Xhosa; yi yid Yiddish; yo yor Yoruba; za zha Zhuang; zh zho Chinese; zu zul Zulu"
)
"""ISO 639-1 and -3 codes, and a name in English."""
_OTHERS = (
    # ISO 639-2/B, which libraries use.
    "tib bo; cze cs; wel cy; ger de; gre el; baq eu; per fa; fre fr; arm hy; ice is; geo ka; "
    "mao mi; mac mk; may ms; bur my; dut nl; rum ro; slo sk; alb sq; chi zh; "
    # ISO 639-3: the language that a macrolanguage's two letters are mostly used for.
    "cmn zh; arb ar; pes fa; swh sw; zsm ms; khk mn; lvs lv; ekk et; npi ne; ory or; uzn uz; "
    "azj az; plt mg; als sq; ydd yi; pbt ps; "
    # Codes of countries, and withdrawn ones, that are no other language's.
    "jp ja; cn zh; ua uk; cz cs; dk da; gr el; vn vi; kh km; iw he; in id; ji yi; jap ja; chn zh; "
    # Other names, and languages by their own.
    "mandarin zh; cantonese yue; farsi fa; filipino tl; castilian es; flemish nl; bokmål nb; "
    "nynorsk nn; deutsch de; français fr; francais fr; español es; espanol es; italiano it; "
    "português pt; portugues pt; русский ru; українська uk; polski pl; nederlands nl; svenska sv; "
    "türkçe tr; čeština cs; 中文 zh; 汉语 zh; 漢語 zh; 普通话 zh; 國語 zh; 日本語 ja; 한국어 ko; "
    "ខ្មែរ km; ภาษาไทย th; العربية ar; हिन्दी hi"
)
_CODES = {
    two: (three, name) for two, three, name in (e.split(" ", 2) for e in _ISO_639.split("; "))
}
_TAGS = (
    {two: two for two in _CODES}
    | {three: two for two, (three, _) in _CODES.items()}
    | {name.casefold(): two for two, (_, name) in _CODES.items()}
    | {name: two for name, _, two in (each.rpartition(" ") for each in _OTHERS.split("; "))}
    | {"jw": "jw"}  # Whisper's tag for Javanese
)
"""By what is written, in small letters, the first part of the tag."""
_SUBTAG = re.compile(r"[A-Za-z]{4}|[A-Za-z]{2}|[0-9]{3}|[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}")
_LETTERS_OF_SCRIPT, _LETTERS_OF_REGION = 4, 2


@lru_cache
def language_tag(written: str) -> str:
    """The tag that ``written`` means: ``ja`` for ``jp``, ``zh`` for ``cmn``, ``en-US`` for en_US.

    A code of three letters that is none of a language with two is taken as ISO 639-3's.

    Raises:
        ValueError: it is no language; the message names the nearest.
    """
    plain = written.strip(" ").casefold()
    if plain in _TAGS:
        return _TAGS[plain]
    # POSIX writes en_US.UTF-8.
    first, *rest = re.split("[-_]", written.strip(" ").partition(".")[0])
    code = _TAGS.get(first.casefold())
    if code is None and re.fullmatch("[A-Za-z]{3}", first):
        code = first.casefold()
    if code is None or not all(map(_SUBTAG.fullmatch, rest)):
        what = f"a language must be a tag such as en, km or zh-Hant, got {written!r}"
        raise ValueError(f"{what}. {_near(plain)}")
    return "-".join((code, *map(_subtag, rest)))


def language_name(tag: str) -> str:
    """The language of a tag in English; the tag itself where its name is not known."""
    return _CODES.get(tag.partition("-")[0], ("", tag))[1]


def _near(plain: str) -> str:
    """Advice that names the language which is spelt most like ``plain``."""
    close = difflib.get_close_matches(plain, _TAGS, n=1, cutoff=0.5)
    if not close:
        return "Write it as BCP 47 has it."
    tag = _TAGS[close[0]]
    return f"Did you mean {tag} ({language_name(tag)})?"


def _subtag(part: str) -> str:
    if len(part) == _LETTERS_OF_SCRIPT and part.isalpha():
        return part.title()
    return part.upper() if len(part) == _LETTERS_OF_REGION else part.lower()
