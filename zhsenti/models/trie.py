"""A batch of prompts as one tree of tokens: what several rows begin with is computed once, and nothing is padding.

Under causal attention a token's hidden states depend only on the tokens before it, so rows that share a beginning
(the template's first words, the prompt before several label words, a review that occurs twice) share its states.
Attention alone needs whole rows: they are written out in blocks of like length, longest first.

    rows   评 论 ： 很 好      nodes      0 1 2 3 4      5        ids        评 论 ： 很 好 差
           评 论 ： 差         places     0 1 2 3 4               positions  0  1  2  3  4  3
                                          0 1 2 5 5               home       0  1  2  3  4  8

Shapes: N nodes, P places in all blocks, R rows of T places in a block, Q reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Matrix products over a number of nodes that is no multiple of 4 take 3 to 25 % longer (docs/log.md, 2026-11-24).
ALIGN = 4
# A row joins a block when at most this share of its places stay empty. On a CPU attention's cost, which grows with the
# square of the places, decides; on a GPU it is the number of blocks, each of which starts kernels of its own.
SLACK = {"cpu": 0.15, "cuda": 0.5}


@dataclass(frozen=True)
class TokenTrie:
    """A batch of token rows in which shared beginnings stand once.

    Attributes:
        ids: (N,) token of every node; N is a multiple of ALIGN.
        positions: (N,) place of every node in its row.
        places: (P,) the node at each place of each row, block after block; beyond a row's end one that is not read
            there.
        blocks: (R, T) of each block.
        home: (N,) the first of ``places`` where each node stands.
        shared: (S,) nodes that stand in more than one row.
        again: (K,) their places other than home.
        again_of: (K,) which of ``shared`` stands at each of ``again``.
        reads: (Q,) nodes whose final hidden state is wanted.
    """

    ids: Tensor
    positions: Tensor
    places: Tensor
    blocks: tuple[tuple[int, int], ...]
    home: Tensor
    shared: Tensor
    again: Tensor
    again_of: Tensor
    reads: Tensor

    def expand(self, x: Tensor) -> list[Tensor]:
        """(N, …) -> one (R, T, …) a block: every row written out."""
        flat = _Expand.apply(x, self).split([R * T for R, T in self.blocks])
        return [part.view(R, T, *x.shape[1:]) for part, (R, T) in zip(flat, self.blocks, strict=True)]

    def collapse(self, blocks: Sequence[Tensor]) -> Tensor:
        """One (R, T, …) a block -> (N, …): each node from its first place."""
        return _Collapse.apply(torch.cat([block.flatten(0, 1) for block in blocks]), self)

    def to(self, device: torch.device | str) -> TokenTrie:
        """The same trie on another device; a GPU gets all tensors in one copy that nobody waits for."""
        if self.ids.device == torch.device(device):
            return self
        tensors: dict[str, Any] = {f.name: x for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor)}
        together = torch.cat(list(tensors.values()))
        if torch.device(device).type == "cuda":
            together = together.pin_memory()
        parts = together.to(device, non_blocking=True).split([len(x) for x in tensors.values()])
        return replace(self, **dict(zip(tensors, parts, strict=True)))


def build_trie(rows: Sequence[Sequence[int]], reads: Sequence[Sequence[int]], slack: float = SLACK["cpu"]) -> TokenTrie:
    """The trie of ``rows``.

    Args:
        rows: Token ids.
        reads: For each row the positions whose hidden states are wanted, in the order they are returned.
        slack: A row joins a block when at most this share of its places stay empty.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    ids, positions, paths = _nodes(rows, order)

    # Nodes nobody reads fill up to a multiple of ALIGN, right of the shortest row, where no real token sees them.
    shortest = paths[order[-1]]
    filling = range(len(ids), len(ids) - len(ids) % -ALIGN)
    written = [paths[index] for index in order[:-1]] + [shortest + list(filling)]
    positions += range(len(shortest), len(written[-1]))
    ids += [0] * len(filling)

    blocks: list[list[list[int]]] = []
    for path in written:
        if blocks and (1 - slack) * len(blocks[-1][0]) <= len(path) <= len(blocks[-1][0]):
            blocks[-1].append(path)
        else:
            blocks.append([path])
    home: dict[int, int] = {}
    shared: dict[int, int] = {}  # node: its number among the shared ones
    again: list[int] = []
    again_of: list[int] = []
    places: list[int] = []
    for block in blocks:
        for path in block:
            for place, node in enumerate(path, len(places)):
                if home.setdefault(node, place) != place:
                    again.append(place)
                    again_of.append(shared.setdefault(node, len(shared)))
            places += path + path[-1:] * (len(block[0]) - len(path))

    lists = {
        "ids": ids,
        "positions": positions,
        "places": places,
        "home": [home[node] for node in range(len(ids))],
        "shared": list(shared),
        "again": again,
        "again_of": again_of,
        "reads": [path[place] for path, chosen in zip(paths, reads, strict=True) for place in chosen],
    }
    tensors = {name: torch.tensor(values, dtype=torch.int64) for name, values in lists.items()}
    return TokenTrie(**tensors, blocks=tuple((len(block), len(block[0])) for block in blocks))


def _nodes(rows: Sequence[Sequence[int]], order: Sequence[int]) -> tuple[list[int], list[int], list[list[int]]]:
    """Token and position of every node, and each row's way through the nodes; rows are taken in ``order``."""
    children: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    positions: list[int] = []
    paths: list[list[int]] = [[] for _ in rows]
    for index in order:
        node, path = -1, paths[index]
        for position, token in enumerate(rows[index]):
            known = children.get((node, token))
            if known is None:
                known = children[node, token] = len(ids)
                ids.append(token)
                positions.append(position)
            node = known
            path.append(node)
    return ids, positions, paths


class _Expand(Function):
    """Gradients of a shared node are summed over its places in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, trie: TokenTrie) -> Tensor:
        ctx.trie = trie
        return x.index_select(0, trie.places)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        trie: TokenTrie = ctx.trie
        g = g.contiguous()
        g_x = g.index_select(0, trie.home)
        if len(trie.again):
            total = g_x[trie.shared].float()
            total.index_add_(0, trie.again_of, g[trie.again].float())
            g_x[trie.shared] = total.to(g.dtype)
        return g_x, None


class _Collapse(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, trie: TokenTrie) -> Tensor:
        ctx.trie = trie
        return x.index_select(0, trie.home)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        trie: TokenTrie = ctx.trie
        return g.new_zeros(len(trie.places), *g.shape[1:]).index_copy_(0, trie.home, g), None
