"""A section as somebody else's package would bring it: this file, and its template beside it."""

from __future__ import annotations

from collections.abc import Iterator

from zhsenti.evaluation.drawing import BLUE, Picture
from zhsenti.evaluation.schema import Model
from zhsenti.evaluation.sections.base import Fact, Section, WeakPoint


class LengthsFile(Model):
    """lengths.json."""

    n: int
    longest: int


class LengthsSection(Section[LengthsFile]):
    """How long the test texts are."""

    file = "lengths.json"
    template = "lengths.html.j2"
    card_template = "lengths.md.j2"

    def title(self) -> str:
        return "文本有多长"

    def compute(self) -> LengthsFile:
        lengths = [len(row.text) for row in self.run.rows.examples]
        return LengthsFile(n=len(lengths), longest=max(lengths))

    def facts(self) -> Iterator[Fact]:
        yield Fact("最长的文本", f"{self.result.longest}", f"字，n={self.result.n}")

    def weak_points(self) -> Iterator[WeakPoint]:
        yield WeakPoint(5, f"最长的文本有 {self.result.longest} 字。")

    def pictures(self) -> dict[str, Picture]:
        def draw(figure, say) -> None:
            figure.add_subplot().bar([say("最长", "longest")], [self.result.longest], color=BLUE)

        return {"lengths": Picture(draw)}

    def context(self) -> dict[str, object]:
        return {"unit": "<字>"}
