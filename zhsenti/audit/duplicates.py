"""Same and nearly same texts, over all splits at once.

Near duplicates: MinHash (Broder 1997) of a text's character 3-grams, banded (locality-sensitive hashing), and every
candidate checked with its exact Jaccard similarity |A ∩ B| / |A ∪ B|. A pair at the threshold is missed with
probability (1 - 0.8^6)^20 = 0.2 %, a more similar one far less often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rensa import RMinHash

THRESHOLD = 0.8
BANDS, ROWS = 20, 6
# However alike the texts are, the work stays linear: bucket neighbours looked at, and candidates checked, per text.
NEIGHBOURS, CHECKED = 8, 8
_GRAM = 3


def groups_of(keys: Sequence[object]) -> dict[object, list[int]]:
    """The positions of each key; keys and positions in order of first occurrence."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return groups


def shingles(text: str) -> np.ndarray:
    """The sorted set of ``text``'s character 3-grams (a shorter text is one by itself), each as one uint64 (K,)."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64) + np.uint64(1)
    width = min(_GRAM, len(points))
    packed = np.zeros(len(points) - width + 1 if width else 0, dtype=np.uint64)
    for place in range(width):  # 21 bits a character: the packing is one to one
        packed |= points[place : len(points) - width + 1 + place] << np.uint64(21 * place)
    return np.unique(packed)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """The similarity |A ∩ B| / |A ∪ B| of two sorted sets."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common) if common else 0.0


def near_pairs(texts: Sequence[str], seed: int = 42) -> list[tuple[int, int, float]]:
    """Find nearly same texts. Of very many alike ones only the nearest in the list are compared (NEIGHBOURS).

    Args:
        texts: Distinct texts.
        seed: Of MinHash.

    Returns:
        (later, earlier, Jaccard ≥ 0.8): two positions and their similarity, by later text, then most similar first.
    """
    if len(texts) < 2:
        return []
    sets = [shingles(text) for text in texts]
    sizes = np.array([len(grams) for grams in sets])
    later, earlier = _candidates(sets, seed)
    alike = np.minimum(sizes[later], sizes[earlier]) >= THRESHOLD * np.maximum(sizes[later], sizes[earlier])
    pairs = []
    for i, j in zip(later[alike].tolist(), earlier[alike].tolist(), strict=True):
        similarity = jaccard(sets[i], sets[j])
        if similarity >= THRESHOLD:
            pairs.append((i, j, similarity))
    return sorted(pairs, key=lambda pair: (pair[0], -pair[2], pair[1]))


def _candidates(sets: list[np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Index arrays (later, earlier): for each text the CHECKED earlier ones that share most bands with it."""
    n = len(sets)
    bands = _signatures(sets, seed).reshape(n, BANDS, ROWS)
    mixer = np.random.default_rng(seed).integers(1, 2**63, ROWS, dtype=np.uint64) | np.uint64(1)
    codes = []
    for band in range(BANDS):
        bucket = (bands[:, band].astype(np.uint64) * mixer).sum(axis=1, dtype=np.uint64)
        order = np.argsort(bucket, kind="stable")  # equal buckets side by side, in order of the texts
        for distance in range(1, min(NEIGHBOURS, n - 1) + 1):
            same = bucket[order[distance:]] == bucket[order[:-distance]]
            codes.append(order[distance:][same] * n + order[:-distance][same])
    pairs, shared = np.unique(np.concatenate(codes), return_counts=True)
    later, earlier = pairs // n, pairs % n
    order = np.lexsort((earlier, -shared, later))
    later, earlier = later[order], earlier[order]
    rank = np.arange(len(later)) - np.searchsorted(later, later)
    return later[rank < CHECKED], earlier[rank < CHECKED]


def _signatures(sets: list[np.ndarray], seed: int) -> np.ndarray:
    """MinHash signatures, uint32 (N, BANDS * ROWS)."""
    flat = np.concatenate(sets)
    offsets = np.concatenate([[0], np.cumsum([len(grams) for grams in sets])]).astype(np.uint64)
    mixed = flat * np.uint64(0x9E3779B97F4A7C15)  # packed 3-grams differ in few bits; a hash differs in all
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(mixed, offsets, BANDS * ROWS, seed)
    return np.array(matrix.to_rows(), dtype=np.uint32)
