"""Rows in forward passes that fit the memory there is.

Where memory runs out, what is done stays, and the rest goes on in passes of half the tokens. That is not done inside
``except``: the error holds the frames of the pass that failed, and with them its tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from zhsenti.core.console import say
from zhsenti.core.errors import MemoryShortError, first_line
from zhsenti.methods.prompt import token_batches
from zhsenti.models.failures import free_cached_memory, is_out_of_memory

SMALL_GPU = 12e9  # bytes; cards that are sold as 12 GB have a little more


def pass_tokens(device: torch.device) -> int:
    """Tokens of a forward pass to begin with."""
    if device.type != "cuda":
        return 1024  # on two cores larger passes are no faster, only larger (docs/log.md, 2026-11-24)
    return 4096 if torch.cuda.get_device_properties(device).total_memory < SMALL_GPU else 16384


class Passes:
    """Cuts rows into forward passes, and remembers how large one may be.

    Args:
        budget: Tokens of a pass, at most; a row that is longer by itself is a pass of its own.

    Attributes:
        budget: The same, halved whenever memory ran out; it stays so.
        tell: What says that to the user, in Chinese: once for every time it happens, however often it was halved.
    """

    def __init__(self, budget: int) -> None:
        self.budget = self._told = budget
        self.tell: Callable[[str], None] = say

    def run(self, lengths: Sequence[int], compute: Callable[[np.ndarray], None]) -> None:
        """Have every row computed once.

        Args:
            lengths: Tokens of N rows.
            compute: One forward pass over the rows with these indices; it keeps their results itself.

        Raises:
            MemoryShortError: One row alone does not fit.
            RuntimeError: Any other error of ``compute``; the rows before it have their results.
        """
        left = self._cut(lengths, np.arange(len(lengths)))
        while left:
            short = _attempt(compute, left[0])
            if short:
                self._spend_less([lengths[i] for i in left[0]], short)
                left = self._cut(lengths, np.concatenate(left))
                continue
            del left[0]
            if self.budget < self._told:
                self.tell(f"内存不足：每次前向从至多 {self._told:,} token 减为 {self.budget:,} token，结果不变，继续。")
                self._told = self.budget

    def _cut(self, lengths: Sequence[int], rows: np.ndarray) -> list[np.ndarray]:
        return [rows[batch] for batch in token_batches([lengths[i] for i in rows], self.budget)]

    def _spend_less(self, lengths: list[int], short: str) -> None:
        """Halve the passes after one of rows of these ``lengths`` did not fit."""
        free_cached_memory()
        if len(lengths) == 1:
            raise MemoryShortError(
                f"内存不足：一条 {lengths[0]:,} token 的文本也放不下",
                found=short,
                todo="关掉别的占内存、显存的程序，再来一次；还不够就换内存大的机器，或在小一号的基座上训练的适配器。",
            )
        self.budget = max(min(self.budget, sum(lengths)) // 2, 1)


def _attempt(compute: Callable[[np.ndarray], None], rows: np.ndarray) -> str:
    """``compute`` of one pass: "" when it is done, what the library says when memory did not suffice."""
    try:
        compute(rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return first_line(error)
    return ""
