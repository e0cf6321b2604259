"""The page's files, read without a browser: colours, what they may load, both languages."""

from __future__ import annotations

import re

import pytest

from zhsenti.core.paths import package_file

STATIC = package_file("zhsenti.serving", "static")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme):
    """WCAG AA: 4.5:1 for text, 3:1 for borders of controls, bars and focus."""
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    block = style.split(':root[data-theme="dark"] {' if theme == "dark" else ":root {")[1].split("}")[0]
    colours = {name: _rgb(value) for name, value in re.findall(r"--([\w-]+): ([^;]+);", block)}
    surfaces = [colours[name] for name in ("ground", "card", "soft")]
    for surface in surfaces:
        assert min(_contrast(colours[name], surface) for name in ("ink", "muted", "accent")) >= 4.5
    assert _contrast(colours["bad"], colours["card"]) >= 4.5 <= _contrast(colours["ink"], colours["bad-soft"])
    assert _contrast(colours["on-accent"], colours["accent"]) >= 4.5 <= _contrast(colours["ink"], colours["note-soft"])
    for name in ("edge", *(f"c{i}" for i in range(8))):
        assert _contrast(colours[name], colours["card"]) >= 3, name
    for name in ("for", "against"):
        pairs = zip(colours[name], colours["card"], strict=True)
        strongest = tuple(0.34 * mark + 0.66 * under for mark, under in pairs)
        assert _contrast(colours["ink"], strongest) >= 4.5
        assert _contrast(colours[name], colours["card"]) >= 3


def _rgb(value: str) -> tuple[float, ...]:
    if value.startswith("#"):
        digits = value[1:] if len(value) == 7 else "".join(2 * digit for digit in value[1:])
        return tuple(int(digits[i : i + 2], 16) for i in (0, 2, 4))
    return tuple(map(float, value.split()))


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    def luminance(colour: tuple[float, ...]) -> float:
        shares = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_nothing_inline_and_nothing_from_elsewhere():
    """The policy would block it at run time; here it is seen before a browser is."""
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", text), (
            path
        )
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/static/)", text)


def test_both_languages_have_the_same_sentences():
    text = (STATIC / "strings.js").read_text(encoding="utf-8")
    both = [re.findall(r"^    (\w+): (\".*\"),$", part, re.M) for part in text.split("\n  en: {")]
    sentences = [{key: set(re.findall(r"\{(\w+)\}", words)) for key, words in part} for part in both]
    assert sentences[0] == sentences[1]
    assert len(sentences[0]) > 100
