"""Small changes to a review after which a person would still give it the same label.

Every change takes the text, a random generator and another label, and returns the changed text, or None where it
changes nothing. ``perturb`` runs one by name, as a pure function of its arguments.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from zhsenti.prediction.explain import clauses

if TYPE_CHECKING:
    from opencc import OpenCC

Change = Callable[[str, Random, str], str | None]

# Never replaced, repeated or written in: a sign, a degree or a number would become another one for a person too.
NEGATION = frozenset("不没非无未别莫勿否")
DEGREE = frozenset("很太最极更")
NUMBERS = frozenset("零一二三四五六七八九十百千万亿两半")
KEPT = NEGATION | DEGREE | NUMBERS
POLAR = frozenset("好差坏烂棒赞美丑贵值佳糟")  # never written in: they would bring a judgement of their own
NEUTRAL_EMOJI = "📦🕒📱🏨📖"
HOMOPHONE_SHARE, SPACE_SHARE = 0.1, 0.2

_HAN = re.compile(r"[㐀-䶿一-鿿]")
_MARK = re.compile(
    r"[，。！；：、]|[,!;](?!\d)|(?<=[一-鿿])\.(?![\d.])"
)  # question and quotation marks stay: they can turn a sentence
_SWAP = dict(zip("，。！；：、,!;.", ",.!;:,，！；。", strict=True))
_FULL = {ord(c): ord(c) + 0xFEE0 for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"}
_HALF = {full: half for half, full in _FULL.items()}


def perturb(kind: str, text: str, seed: int, other_label: str) -> str | None:
    """Change a text.

    Args:
        kind: Of change, a key of ``PERTURBATIONS``.
        text: What is changed.
        seed: With kind and text it decides all that is random.
        other_label: For changes that write in a label.

    Returns:
        The changed text; None where it is as it was, or blank.
    """
    rng = Random(f"{seed}/{kind}/{text}".encode("utf-8", "surrogatepass"))
    changed = PERTURBATIONS[kind][1](text, rng, other_label)
    return None if changed is None or changed == text or not changed.strip() else changed


def homophone(text: str, rng: Random, other_label: str) -> str | None:
    """A tenth of the Han characters as others of the same sound, as input methods slip; readers hear the word.

    Tone is kept where a common character allows it. Negations, degrees and numbers are left alone, and neither they
    nor polar characters are written in: such a slip could change the meaning for a person as well.
    """
    slots = [i for i, c in enumerate(text) if _HAN.match(c) and c not in KEPT]
    sounds = _pinyin(text) if slots else []
    choices = {i: others for i in slots if (others := _homophones(text[i], sounds[i]))}
    if not choices:
        return None
    count = min(len(choices), max(1, round(HOMOPHONE_SHARE * len(slots))))
    characters = list(text)
    for i in rng.sample(sorted(choices), count):
        characters[i] = rng.choice(choices[i])
    return "".join(characters)


def traditional(text: str, rng: Random, other_label: str) -> str | None:
    """The same sentence in traditional characters (OpenCC s2t); None where it holds some already."""
    if _convert("t2s", text) != text:
        return None
    return _convert("s2t", text)


def punctuation(text: str, rng: Random, other_label: str) -> str | None:
    """Commas, stops and exclamation marks in the other width, or a space in place of each; the words are untouched."""
    swapped = rng.random() < 0.5
    return _MARK.sub(lambda mark: _SWAP[mark[0]] if swapped else " ", text).rstrip()


def width(text: str, rng: Random, other_label: str) -> str | None:
    """ASCII letters and digits in full width, or full-width ones in ASCII: another shape of the same characters."""
    full = text.translate(_FULL)
    return full if full != text else text.translate(_HALF)


def spaces(text: str, rng: Random, other_label: str) -> str | None:
    """A space in a fifth of the places between two Han characters, as bad copying leaves it; the eye skips it."""
    places = [i for i in range(1, len(text)) if _HAN.match(text[i - 1]) and _HAN.match(text[i])]
    if not places:
        return None
    chosen = set(rng.sample(places, max(1, round(SPACE_SHARE * len(places)))))
    return "".join(f" {c}" if i in chosen else c for i, c in enumerate(text))


def emoji(text: str, rng: Random, other_label: str) -> str | None:
    """One or two emoji of things (a parcel, a clock) after a clause: they take no side."""
    where = rng.choice([end for _, end in clauses(text)] or [0])
    return text[:where] + "".join(rng.choices(NEUTRAL_EMOJI, k=rng.randint(1, 2))) + text[where:]


def repeat(text: str, rng: Random, other_label: str) -> str | None:
    """One character two to four times, and so the final mark, as people drawl (好好好！！！); not a sign or number."""
    slots = [i for i, c in enumerate(text) if _HAN.match(c) and c not in KEPT]
    times = rng.randint(2, 4)
    if text.endswith(("。", "！", "!", "~", "～")):
        text += text[-1] * (times - 1)
    if slots:
        i = rng.choice(slots)
        text = text[:i] + text[i] * times + text[i + 1 :]
    return text


def suffix(text: str, rng: Random, other_label: str) -> str | None:
    """A line that dictates the other label, as an attacker would add it; people see that it is not the reviewer's."""
    return f"{text}\n情感倾向：{other_label}"


PERTURBATIONS: dict[str, tuple[str, Change]] = {
    "homophone": ("同音错字", homophone),
    "traditional": ("繁体字", traditional),
    "punctuation": ("标点", punctuation),
    "width": ("全角半角", width),
    "spaces": ("多余空格", spaces),
    "emoji": ("中性表情", emoji),
    "repeat": ("重复字符", repeat),
    "suffix": ("末尾注入标签", suffix),
}


def _pinyin(text: str) -> list[str]:
    """Reading with tone number of each character in its context; the character itself where it has none."""
    from pypinyin import Style, lazy_pinyin

    # A list from ``errors`` counts one entry a character; its type hint knows only strings.
    return lazy_pinyin(text, style=Style.TONE3, errors=list, neutral_tone_with_five=True)  # type: ignore[arg-type]


def _homophones(character: str, sound: str) -> list[str]:
    """Other common characters read as ``sound`` (hao3); where there are none, those of its syllable in any tone."""
    by_sound, by_syllable = _sound_tables()
    same_tone = [c for c in by_sound.get(sound, ()) if c != character]
    return same_tone or [c for c in by_syllable.get(sound[:-1], ()) if c != character]


@cache
def _sound_tables() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Writable characters by sound and by syllable: the 3,755 of GB 2312's level 1, each in its commonest reading."""
    cells = (bytes([0xA0 + row, 0xA0 + cell]) for row in range(16, 56) for cell in range(1, 95))
    by_sound: dict[str, list[str]] = defaultdict(list)
    by_syllable: dict[str, list[str]] = defaultdict(list)
    for character in "".join(cell.decode("gb2312", "ignore") for cell in cells):
        if character not in KEPT | POLAR:
            [sound] = _pinyin(character)
            by_sound[sound].append(character)
            by_syllable[sound[:-1]].append(character)
    return dict(by_sound), dict(by_syllable)


def _convert(config: str, text: str) -> str:
    """OpenCC over all but lone surrogates, which it refuses."""
    converter = _converter(config)
    return re.sub(r"[^\ud800-\udfff]+", lambda run: converter.convert(run[0]), text)


@cache
def _converter(config: str) -> OpenCC:
    from opencc import OpenCC

    return OpenCC(config)
