"""Prompts as token ids, and how many of them go through a model at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zhsenti.core.errors import ConfigError
from zhsenti.data.text import readable
from zhsenti.models.backbone import Tokenizer
from zhsenti.task import SentimentTask


@dataclass(frozen=True)
class Encoded:
    """One prompt.

    Attributes:
        ids: Token ids, after the cut.
        tokens: Length before the cut.
        label: Class index, where it is known.
    """

    ids: list[int]
    tokens: int
    label: int | None = None

    @property
    def truncated(self) -> bool:
        return self.tokens > len(self.ids)


class PromptEncoder:
    """Prompt ids by segment: literal + text + literal, so that nothing in a review can act as prompt or control token.

    Literals come from the task and keep their special tokens; slots (text, aspect) are encoded with special tokens
    split. Only the text slot is cut: head and tail are kept, the literals never shortened.
    """

    def __init__(self, task: SentimentTask, tokenizer: Tokenizer) -> None:
        self.task, self.tokenizer = task, tokenizer
        before, after = task.template.split("{text}")
        self._before = [self._literal(part) for part in before.split("{aspect}")]
        self._after = [self._literal(part) for part in after.split("{aspect}")]

    def _literal(self, text: str) -> list[int]:
        return self.tokenizer.encode(text) if text else []

    def _slot(self, text: str) -> list[int]:
        return self.tokenizer.encode(readable(text), split_special_tokens=True)  # it raises for lone surrogates

    def __call__(self, text: str, label: int | None = None, aspect: str | None = None) -> Encoded:
        """Ids of the whole prompt.

        Raises:
            ConfigError: max_length leaves no room for text, or the template asks for an aspect and there is none.
        """
        if self.task.has_aspect and aspect is None:
            raise ConfigError(
                "任务模板含 {aspect}，但没有给方面", todo="给出方面：命令行用 --aspect，文件用 aspect 列。"
            )
        slot = self._slot(aspect) if self.task.has_aspect and aspect is not None else []
        before, after = _join(self._before, slot), _join(self._after, slot)
        body = self._slot(text)
        room = self.task.max_length - len(before) - len(after)
        if room < 8:
            raise ConfigError(
                f"max_length {self.task.max_length} 太小：模板已占 {len(before) + len(after)} 个 token",
                todo=f"把 --max_length 提到 {len(before) + len(after) + 8} 以上。",
            )
        total = len(before) + len(body) + len(after)
        if len(body) > room:
            head = round(room * self.task.head_share)
            body = body[:head] + body[len(body) - (room - head) :]
        return Encoded([*before, *body, *after], total, label)


def _join(parts: list[list[int]], slot: list[int]) -> list[int]:
    joined = list(parts[0])
    for part in parts[1:]:
        joined += slot + part
    return joined


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Rows cut into forward passes, longest first, so that memory runs out at the start or not at all.

    Args:
        lengths: Tokens of every row.
        budget: Tokens that a pass holds at most; a row that is longer by itself is a pass of its own.

    Returns:
        Indices into ``lengths``, pass by pass.
    """
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        tokens += lengths[index]
        if batches and tokens <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
            tokens = lengths[index]
    return batches
