"""Which reviews share a batch: of like length, so that little is padding; decided by seed and epoch alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

POOL_BATCHES = 50  # batches drawn at random together, then sorted by length inside the pool


class LengthBucketSampler:
    """Batches of indices. Each epoch: shuffle, cut into pools, sort each pool by length, cut into batches, shuffle.

    The order is a pure function of (lengths, batch_size, seed, epoch): a resumed run sees what an unbroken one would.
    Every index comes exactly once an epoch.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        pool = self.batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=lambda i: self.lengths[i])
            batches += cut(chunk, self.batch_size)
        rng.shuffle(batches)
        yield from batches


def cut(order: Sequence[int], batch_size: int) -> list[list[int]]:
    return [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """For scoring: all rows sorted by length, longest first, so that memory trouble and a low ETA show at once."""
    return cut(sorted(range(len(lengths)), key=lambda i: -lengths[i]), batch_size)
