"""What a prediction and its explanation look like on a terminal, or as a line of JSON."""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING

from zhsenti.core.console import plain_console
from zhsenti.data.text import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from zhsenti.prediction.explain import Explanation, Unit
    from zhsenti.prediction.result import Prediction

WIDTH = 80  # columns, or fewer where the terminal has fewer
STRONGEST = 6  # rows of the table
# Backgrounds from weakest to strongest, under black letters; effects below the smallest share stay plain.
GREEN, RED, SMALLEST = ((222, 242, 222), (80, 190, 90)), ((250, 224, 220), (240, 110, 95)), 0.1


def show(text: str, result: Prediction, as_json: bool, explanation: Explanation | None = None) -> None:
    """Print one text and its result on standard output.

    Args:
        text: What was judged.
        result: The judgement.
        as_json: One line of JSON instead of lines for people.
        explanation: What it hangs on, where that was asked for.
    """
    if as_json:
        extra = {"explanation": explanation.model_dump()} if explanation else {}
        print(json.dumps({"text": readable(text), **result.to_dict(), **extra}, ensure_ascii=False), flush=True)
        return
    scores = "  ".join(f"{label} {p:.4f}" for label, p in result.scores.items())
    cut = f"（共 {result.tokens} token，已截断）" if result.truncated else ""
    verdict = f"  → {result.label}  概率 {result.confidence:.2%}    [{scores}]{cut}"
    if explanation:
        _show_explanation(text, verdict, result, explanation)
    else:
        print(f"{_printable(text)}\n{verdict}", flush=True)


def _printable(text: str) -> str:
    """Control characters stay out of the terminal; every character keeps its place."""
    return "".join(c if c.isprintable() else " " for c in text)


def _show_explanation(text: str, verdict: str, result: Prediction, explanation: Explanation) -> None:
    """The text with its words on green (for the label) or red, the verdict, how to read it, and the strongest units.

    Everything that colour says stands in the table too: NO_COLOR, pipes and colour-blind readers lose nothing.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from zhsenti.prediction.explain import word_units

    console = plain_console()
    console.width = min(console.width, WIDTH)
    coloured = Text(_printable(text), overflow="fold")
    largest = max((abs(unit.effect) for unit in explanation.words), default=0.0)
    for unit in explanation.words:
        if abs(unit.effect) > SMALLEST * largest:
            coloured.stylize(_background(unit.effect / largest), unit.start, unit.end)
    console.print(coloured)
    print(verdict)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("词", "小句"):
        table.add_column(title)
        table.add_column("下降", justify="right")
    for pair in zip_longest(_strongest(explanation.words, 16), _strongest(explanation.clauses, 36), fillvalue=("", "")):
        table.add_row(*(cell for cells in pair for cell in cells))
    if table.rows:
        console.print(f"  读法：去掉它，“{result.label}”的对数几率下降多少；正数（绿）支持，负数（红）反对。")
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
    else:
        console.print("  去掉任何一个词或小句，判断几乎不变。")
    if (total := len(word_units(text))) > len(explanation.words):
        console.print(f"  全文 {total} 个词，只看了影响最大的小句里的 {len(explanation.words)} 个。")
    if result.truncated:
        console.print("  文本过长，中段没有读：那里的词不影响判断。")
    sys.stdout.flush()


def _strongest(units: Sequence[Unit], width: int) -> list[tuple[Text, str]]:
    """Rows of the table, the greatest effect first: at most ``width`` columns of text, and the signed effect."""
    from rich.text import Text

    rows = []
    for unit in sorted(units, key=lambda unit: -abs(unit.effect))[:STRONGEST]:
        if abs(unit.effect) >= 0.005:  # what two decimals can show
            text = Text(_printable(unit.text))
            text.truncate(width, overflow="ellipsis")
            rows.append((text, f"{unit.effect:+.2f}"))
    return rows


def _background(share: float) -> str:
    """Style of a word whose effect is ``share`` in [-1, 1] of the largest."""
    weak, strong = GREEN if share > 0 else RED
    red, green, blue = (round(w + (s - w) * abs(share)) for w, s in zip(weak, strong, strict=True))
    return f"black on #{red:02x}{green:02x}{blue:02x}"
