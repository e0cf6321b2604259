"""Models of two layers with random weights, their tokenizer, and adapters on them: saved in a second, run in less."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from zhsenti.task import SentimentTask


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE like Qwen2's in kind: every text encodes, 正面/负面 are one token each, 中性 is two."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: index for index, symbol in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []

    def learn(word: str) -> None:
        pieces = list(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(word)[0][0])
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if "".join(pair) not in vocab:
                vocab["".join(pair)] = len(vocab)
                merges.append(pair)
            pieces = ["".join(pair), *pieces[2:]]

    for word in ("正面", "负面", "中", "性"):
        learn(word)
    bpe = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=32768
    )
    return tokenizer


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, kind: str) -> Path:
    """Save a random model and the tokenizer.

    Args:
        folder: Where to.
        tokenizer: Of ``make_tokenizer``.
        kind: ``qwen2`` or ``qwen3``.

    Returns:
        The folder.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config_class, model_class = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}[
        kind
    ]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = model_class(config)
    with torch.no_grad():  # default init is too flat to learn from in a few steps
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(
    folder: Path,
    model: Path,
    method_name: str,
    task: SentimentTask | None = None,
    *,
    seed: int = 3,
    std: float | None = 0.5,
    layers: str = "all-linear",
    **base: Any,
) -> Path:
    """Save an adapter (float32) whose LoRA B and head are random and large, so that leaving one of them out shows.

    Args:
        folder: Where to.
        model: The tiny model's folder.
        method_name: A key of ``METHODS``.
        task: What it is asked.
        seed: Of its weights.
        std: Of LoRA B and the head; None leaves them untrained (B = 0).
        layers: Those that LoRA is on.
        base: What its manifest says of the base besides the usual.

    Returns:
        The folder.
    """
    import torch

    from zhsenti.artifact import Manifest, save_artifact
    from zhsenti.methods import get_method
    from zhsenti.models.backbone import LoraOptions, Tokenizer
    from zhsenti.models.precision import pick_precision
    from zhsenti.models.sources import resolve_model
    from zhsenti.task import SentimentTask

    task, resolved = task or SentimentTask(), resolve_model(str(model))
    method = get_method(method_name)(task, Tokenizer(resolved.path))
    torch.manual_seed(seed)
    scorer = method.build(resolved.path, pick_precision("fp32"), lora=LoraOptions(4, 8, 0.0, layers))
    if std is not None:
        with torch.no_grad():
            for name, parameter in scorer.named_parameters():
                if parameter.requires_grad and "lora_A" not in name:
                    parameter.normal_(std=std)
    known = {"requested": str(model), "model_id": str(model), "source": "folder", "revision": resolved.revision}
    manifest = Manifest(method_name, task, {**known, "precision": "fp32", **base})
    save_artifact(folder, scorer.network, manifest)
    return folder


def train_flags(model: Path, dataset: Path, method_name: str) -> list[str]:
    """Flags of a training of four updates, with checkpoints after the second and the fourth.

    Args:
        model: The tiny model's folder.
        dataset: A file of at least 40 labelled reviews.
        method_name: A key of ``METHODS``.
    """
    settings = {
        "method": method_name, "model_name": model, "dataset": dataset, "precision": "fp32", "max_length": 64,
        "max_train_samples": 32, "max_dev_samples": 8, "num_epochs": 1, "batch_size": 8,
        "gradient_accumulation_steps": 1, "eval_steps": 2,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in settings.items()]


def train_adapter(folder: Path, model: Path, dataset: Path, method_name: str) -> Path:
    """Train with ``train_flags`` in this process.

    Args:
        folder: Where the run goes: checkpoints, ``train_results.json`` and ``lora_adapter/``.
        model: The tiny model's folder.
        dataset: A file of at least 40 labelled reviews.
        method_name: A key of ``METHODS``.

    Returns:
        The folder.
    """
    from zhsenti.training.command import main

    assert main([*train_flags(model, dataset, method_name), f"--output_dir={folder}"]) == 0
    return folder
