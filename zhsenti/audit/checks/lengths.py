"""Prompt lengths against ``max_length``: by the model's tokenizer where there is one, else estimated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from zhsenti.audit.checks.base import AuditOptions, Check, CountTokens, Outcome, Warned, percent
from zhsenti.audit.findings import Kind, SplitFacts, TokenStats
from zhsenti.audit.rows import Rows
from zhsenti.task import SentimentTask

TOO_LONG = Kind("too_long", "超过 max_length", 80)
# Tokens a character of Qwen2.5's tokenizer, fitted on ChnSentiCorp: total within 1 %, median error of a review 5 %.
_HAN, _LETTER, _OTHER = 0.62, 0.3, 0.9
_LETTERS = re.compile(r"[A-Za-z]")
_HANS = re.compile(r"[\u3400-\u9fff]")


def check(rows: Rows, task: SentimentTask, options: AuditOptions) -> Outcome:
    """Count the tokens of every prompt. Fills ``Audit.splits``."""
    tokens = prompt_tokens(rows.texts, rows.aspects, task, options.count_tokens)
    measured = options.count_tokens is not None
    facts = []
    for split in rows.splits:
        place = rows.of[split.name]
        facts.append(
            SplitFacts(
                name=split.name,
                source=split.source,
                note=split.note,
                n=len(place),
                labelled=split.labels is not None,
                labels=rows.label_counts(split.name),
                tokens=token_stats(tokens[place.start : place.stop], task.max_length, measured=measured),
            )
        )
    roughly = "" if measured else "约 "
    too_long = [
        rows.finding(TOO_LONG, i, f"{roughly}{tokens[i]} 个 token，上限 {task.max_length}", score=float(tokens[i]))
        for i in np.flatnonzero(tokens > task.max_length).tolist()
    ]
    return Outcome(findings=too_long, warnings=list(_warnings(facts)), fields={"splits": facts})


def _warnings(splits: Sequence[SplitFacts]) -> Iterator[Warned]:
    for split in splits:
        stats = split.tokens
        if stats.n_over:
            how = "" if stats.measured else "（按字数估计）"
            yield Warned(
                f"{split.name} 有 {stats.n_over} 条（{percent(stats.n_over, split.n)}）超过 max_length "
                f"{stats.max_length}{how}，最长 {stats.max} 个 token：中间的文字不会被读到",
                TOO_LONG.rank,
            )


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """About how many tokens each text has, by its characters alone."""
    counts = []
    for text in texts:
        han, letters = len(_HANS.findall(text)), len(_LETTERS.findall(text))
        counts.append(round(_HAN * han + _LETTER * letters + _OTHER * (len(text) - han - letters)))
    return counts


def prompt_tokens(
    texts: Sequence[str], aspects: Sequence[str] | None, task: SentimentTask, count: CountTokens | None
) -> np.ndarray:
    """Tokens of every text's whole prompt: literals, aspect and text, before any cut.

    Args:
        texts: N texts.
        aspects: Their aspects, where the task has any.
        task: The prompt's template.
        count: A tokenizer; None: estimated.

    Returns:
        int64 (N,).
    """
    count = count or estimate_tokens
    before, after = task.template.split("{text}")
    literals = [part for side in (before, after) for part in side.split("{aspect}") if part]
    tokens = np.array(count(texts), dtype=np.int64) + sum(count(literals))
    return tokens + np.array(count(aspects), dtype=np.int64) if task.has_aspect and aspects else tokens


def token_stats(tokens: np.ndarray, max_length: int, *, measured: bool) -> TokenStats:
    """Sum up ``tokens`` (N,), N > 0."""
    return TokenStats(
        measured=measured,
        max_length=max_length,
        mean=round(float(tokens.mean()), 1),
        median=float(np.median(tokens)),
        p95=round(float(np.percentile(tokens, 95)), 1),
        max=int(tokens.max()),
        n_over=int((tokens > max_length).sum()),
    )


LENGTHS = Check("长度", (TOO_LONG,), check)
