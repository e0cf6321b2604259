"""Shapes of Qwen2.5, and tiny ones of the same kind: grouped heads, tied and untied embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """What a configuration is made of.

    Attributes:
        hidden: Width of a hidden state.
        layers: How many.
        heads: Query heads.
        keys: Key and value heads.
        intermediate: Width inside the MLP.
        vocab: Tokens.
        tied: Whether the output layer is the embedding.
        spread: Standard deviation of the random weights: 0.02 as Qwen's; more in narrow layers, whose sums are small.
    """

    hidden: int
    layers: int
    heads: int
    keys: int
    intermediate: int
    vocab: int
    tied: bool
    spread: float = 0.02

    def configuration(self) -> Any:
        """The transformers configuration."""
        from transformers import Qwen2Config

        return Qwen2Config(
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.keys,
            max_position_embeddings=32768,
            tie_word_embeddings=self.tied,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            use_cache=False,
        )


# The published configurations.
SIZES = {
    "0.5b": Size(896, 24, 14, 2, 4864, 151936, True),
    "1.5b": Size(1536, 28, 12, 2, 8960, 151936, True),
    "7b": Size(3584, 28, 28, 4, 18944, 152064, False),
}
TINY = {
    "0.5b": Size(32, 2, 4, 2, 64, 512, True, 0.15),
    "1.5b": Size(64, 2, 4, 2, 128, 512, True, 0.1),
    "7b": Size(128, 2, 4, 2, 256, 512, False, 0.1),
}
