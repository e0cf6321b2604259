"""A batch of prompts as one tree of tokens: what several rows begin with is computed once, and nothing is padding.

Under causal attention a token's hidden states depend only on the tokens before it, so rows that share a beginning
(the template's first words, the prompt before several label words, a review that occurs twice) share its states.

    rows   评 论 ： 很 好      nodes      0 1 2 3 4      5        ids        评 论 ： 很 好 差
           评 论 ： 差         rows       0 1 2 3 4               positions  0  1  2  3  4  3
                                          0 1 2 5 5               home       0  1  2  3  4  8

Shapes: N nodes, R rows, T longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Matrix products over a number of nodes that is no multiple of 4 take 3 to 25 % longer (docs/log.md, 2026-11-24).
ALIGN = 4


@dataclass(frozen=True)
class TokenTrie:
    """ids, positions  (N,) token and place in its row of every node; N is a multiple of ALIGN
    rows      (R, T) the node at each place of each row; beyond a row's end a node that is not read there
    home      (N,) the first place in ``rows.flatten()`` of each node
    shared    (S,) nodes that stand in more than one row
    again     (K,) their places other than home, and
    again_of  (K,) which of ``shared`` stands there
    reads     (P,) nodes whose final hidden state is wanted
    """

    ids: Tensor
    positions: Tensor
    rows: Tensor
    home: Tensor
    shared: Tensor
    again: Tensor
    again_of: Tensor
    reads: Tensor

    def expand(self, x: Tensor) -> Tensor:
        """(N, …) -> (R, T, …): every row written out."""
        return _Expand.apply(x, self).view(*self.rows.shape, *x.shape[1:])

    def collapse(self, x: Tensor) -> Tensor:
        """(R, T, …) -> (N, …): each node from its first place."""
        return _Collapse.apply(x.flatten(0, 1), self)

    def to(self, device: torch.device | str, **kwargs: bool) -> TokenTrie:
        return TokenTrie(*(getattr(self, f.name).to(device, **kwargs) for f in fields(self)))


def build_trie(rows: Sequence[Sequence[int]], reads: Sequence[Sequence[int]]) -> TokenTrie:
    """``reads``: for each row, the positions whose hidden states are wanted, in the order they are returned."""
    shortest = min(range(len(rows)), key=lambda i: len(rows[i]))
    width = max(*map(len, rows), len(rows[shortest]) + ALIGN - 1)
    children: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    positions: list[int] = []
    home: list[int] = []
    shared: dict[int, int] = {}  # node: its number among the shared ones
    again: list[int] = []
    again_of: list[int] = []
    table: list[list[int]] = []
    wanted: list[int] = []
    for row, places in zip(rows, reads, strict=True):
        node, path, start = -1, [], len(table) * width
        for position, token in enumerate(row):
            known = children.get((node, token))
            if known is None:
                known = children[node, token] = len(ids)
                ids.append(token)
                positions.append(position)
                home.append(start + position)
            else:
                again.append(start + position)
                again_of.append(shared.setdefault(known, len(shared)))
            node = known
            path.append(node)
        wanted += [path[place] for place in places]
        table.append(path + path[-1:] * (width - len(path)))
    # Nodes nobody reads, to the right of the shortest row, where no real token sees them.
    for place in range(len(rows[shortest]), len(rows[shortest]) - len(ids) % -ALIGN):
        table[shortest][place:] = [len(ids)] * (width - place)
        home.append(shortest * width + place)
        positions.append(place)
        ids.append(0)
    lists = (ids, positions, table, home, list(shared), again, again_of, wanted)
    return TokenTrie(*(torch.tensor(values, dtype=torch.int64) for values in lists))


class _Expand(Function):
    """Gradients of a shared node are summed over its places in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, trie: TokenTrie) -> Tensor:
        ctx.trie = trie
        return x.index_select(0, trie.rows.flatten())

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
        return g.new_zeros(trie.rows.numel(), *g.shape[1:]).index_copy_(0, trie.home, g), None
