"""Which reviews share an update: of like length, so that attention pads little; decided by seed and epoch alone."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

POOL_BATCHES = 50  # batches drawn at random together, then sorted by length inside the pool


class LengthBucketSampler:
    """Updates as lists of indices, each index exactly once an epoch.

    Each epoch: shuffle, cut into pools, sort each pool by length, cut into batches, shuffle those, and join
    ``accumulation`` of them to an update. The order is a pure function of the arguments and the epoch: a resumed run
    sees what an unbroken one would.

    Args:
        lengths: Of the reviews, in tokens.
        batch_size: Reviews of like length that come together.
        accumulation: Batches in an update.
        seed: Decides the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, accumulation: int, seed: int) -> None:
        self.lengths, self.batch_size, self.accumulation = lengths, batch_size, accumulation
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of; as torch's samplers have it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self.lengths) / self.batch_size) / self.accumulation)

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        pool = self.batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=lambda i: self.lengths[i])
            batches += [chunk[i : i + self.batch_size] for i in range(0, len(chunk), self.batch_size)]
        rng.shuffle(batches)
        for start in range(0, len(batches), self.accumulation):
            yield [index for batch in batches[start : start + self.accumulation] for index in batch]
