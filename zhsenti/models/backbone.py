"""Qwen from a folder, in the right precision, with LoRA or QLoRA on it."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.errors import ConfigError, DataError, ModelError, first_line
from zhsenti.models.adapter_check import SavedAdapter, load_adapter
from zhsenti.models.failures import conversion_errors, is_machines_fault, memory_sign
from zhsenti.models.precision import Precision, pick_device

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoraOptions:
    """LoRA (Hu et al. 2021, arXiv:2106.09685): W x + (alpha / r) B A x, with A (r, in) and B (out, r) trained.

    Attributes:
        r: Rank.
        alpha: Scale.
        dropout: Probability that an input of A is zeroed in training.
        target_modules: "all-linear", or comma-separated names of layers.
    """

    r: int
    alpha: int
    dropout: float
    target_modules: str


def keep_freed_memory() -> None:
    """Let glibc keep what a forward pass frees for the next one, instead of giving it back and faulting it in again.

    Takes 5 to 10 % off scoring (docs/log.md, 2026-11-24). The peak is as before; memory goes back with the process.
    """
    import ctypes

    if platform.libc_ver()[0] == "glibc":
        mmap_threshold, trim_threshold = -3, -1  # malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 32 * 2**20)  # the largest it takes; setting it also keeps it from moving
        libc.mallopt(trim_threshold, 2**31 - 1)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence loaders' bars and notices ("some weights were not initialised" …): we check and say what matters."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    bar_was_on = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bar_was_on:
            logging.enable_progress_bar()


class Tokenizer:
    """Qwen's tokenizer from its tokenizer.json, without the second that importing transformers for it takes.

    Raises:
        ModelError: The folder holds no tokenizer that can be read.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend
        from tokenizers.normalizers import NFC

        path = folder / "tokenizer.json"
        try:
            self._backend = Backend.from_file(str(path)) if path.is_file() else _convert_tokenizer(folder)
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelError(
                f"读不了 {folder} 的分词器", found=first_line(error), todo="换一个完整的模型文件夹。"
            ) from error
        _refuse_pre_tokenizer(folder, self._backend)
        # As transformers' Qwen2Tokenizer does whatever the file says; a file made from a GGUF lacks it.
        self._backend.normalizer = NFC()
        self._backend.no_truncation()

    def encode(self, text: str, *, split_special_tokens: bool = False) -> list[int]:
        """Ids of ``text`` and nothing around it; control tokens written in it are text with split_special_tokens.

        Raises:
            DataError: The tokenizer panics at this text.
        """
        self._backend.encode_special_tokens = split_special_tokens
        try:
            return self._backend.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Rust's panic: no Exception, and no reason to end the process
                raise
            raise DataError("分词器在这条文本上出错", found=first_line(error), todo="去掉这条文本。") from error


# How Qwen2 and its siblings cut a text before byte pairs are merged.
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _refuse_pre_tokenizer(folder: Path, backend: Any) -> None:
    """Refuse a tokenizer that cuts texts in another way: with a stranger's pattern one review can take for ever.

    Raises:
        ModelError: It does.
    """
    import json

    whole = json.loads(backend.pre_tokenizer.__getstate__()) if backend.pre_tokenizer else {"type": "没有"}
    for part in whole.get("pretokenizers", [whole]):
        pattern = part.get("pattern", {}).get("Regex")
        if part["type"] != "ByteLevel" and (part["type"], pattern) != ("Split", QWEN_PATTERN):
            found = f"{part['type']} {pattern or ''}".strip()[:120]
            todo = "换一个 Qwen2、Qwen2.5 或 Qwen3 的模型文件夹。"
            raise ModelError(f"{folder} 的分词器切分文本的方式不是 Qwen 的", found=found, todo=todo)


def _convert_tokenizer(folder: Path) -> Any:
    """Older folders hold vocab.json and merges.txt instead."""
    from transformers import AutoTokenizer

    with quiet_loading():
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer


def load_config(folder: Path) -> Any:
    """The model's transformers configuration, read before any weight.

    Raises:
        ModelError: It cannot be read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise ModelError(
            f"读不了 {folder} 的模型配置", found=first_line(error), todo="换一个完整的模型文件夹。"
        ) from error


def load_backbone(
    folder: Path,
    auto_class: str,
    precision: Precision,
    *,
    use_qlora: bool = False,
    head: str | None = None,
    device: torch.device | None = None,
    **config: Any,
) -> PreTrainedModel:
    """The frozen base model.

    Args:
        folder: The base.
        auto_class: Name of the transformers Auto class to open it with.
        precision: What it computes in.
        use_qlora: Hold the linear layers in NF4 with double quantisation (Dettmers et al. 2023, arXiv:2305.14314); LM
            head and ``head`` are not quantised.
        head: Name of a module that the folder need not hold: it is trained.
        device: Where it is held; the machine's own device where nothing is said.
        config: Overrides of the model's configuration, e.g. ``num_labels``.

    Raises:
        ModelError: The folder holds no whole model of a kind that is known.
        RuntimeError: Memory ran out, or the GPU is lost (``naming_load_failures`` puts it in words).
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    device = device or pick_device()
    kwargs: dict[str, Any] = {"dtype": precision.dtype, "trust_remote_code": False, "use_safetensors": True, **config}
    if use_qlora:
        kwargs |= _in_four_bits(precision, head, device)
    try:
        with conversion_errors() as converting, quiet_loading():
            opened = getattr(transformers, auto_class)
            model, report = opened.from_pretrained(folder, output_loading_info=True, **kwargs)
        missing = sorted(name for name in report["missing_keys"] if not (head and name.startswith(f"{head}.")))
        if missing:  # transformers would draw them at random
            raise ValueError(f"缺 {len(missing)} 个张量：{'、'.join(missing[:4])}")
    except (OSError, ValueError, KeyError, RuntimeError, StrictDataclassError) as error:
        if is_machines_fault(error):
            raise
        if short := memory_sign("\n".join(converting)):
            raise MemoryError(short) from error
        raise ModelError(
            f"读不了基座模型 {folder}", found=first_line(error), todo="换一个完整的模型文件夹。"
        ) from error
    if use_qlora:
        _settle_four_bits(model, device)
    else:
        model.to(device)
    model.config.use_cache = False
    model.requires_grad_(False)
    return model


def _in_four_bits(precision: Precision, head: str | None, device: torch.device) -> dict[str, Any]:
    """What ``from_pretrained`` is told to hold the linear layers in NF4."""
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.dtype,
        llm_int8_skip_modules=["lm_head", *([head] if head else [])],
    )
    return {"quantization_config": quantised, "device_map": {"": device}}


def _settle_four_bits(model: Any, device: torch.device) -> None:
    """Let a model in 4 bits hold no more than it needs, and compute with the same weights at every pass."""
    if device.type == "cpu":
        # What was not quantised is mapped from the file, and keeps all the rest of it in memory.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    # On CPUs with AVX-512 bf16, bitsandbytes repacks a layer at the first evaluation, rounds its scales to bf16 and
    # keeps it so: training after a dev evaluation would run on other weights. Off, every pass sees the same ones.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def add_lora(
    model: PreTrainedModel, options: LoraOptions, *, head: str | None = None, task_type: str = "CAUSAL_LM"
) -> PeftModel:
    """Put fresh LoRA weights (float32) on ``model``.

    Args:
        model: The base.
        options: Sizes, and which layers.
        head: Name of a module that is trained and saved whole.
        task_type: peft's word for the kind of model.

    Raises:
        ConfigError: A named target layer does not exist, or is the output layer, whose rows are read directly.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    names = [name.strip() for name in options.target_modules.split(",") if name.strip()]
    targets: str | list[str] = "all-linear" if names == ["all-linear"] else names
    if targets != "all-linear":
        import torch

        linear = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        linear -= {"lm_head", head}
        wrong = [name for name in targets if name not in linear]
        if wrong or not targets:
            raise ConfigError(
                f"lora_target_modules 里没有这样的层：{wrong}", expected="all-linear 或 " + "、".join(sorted(linear))
            )
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=targets,
        modules_to_save=[head] if head else None,
        task_type=TaskType[task_type],
    )
    if not hasattr(model, "activation_checkpointing_enable"):  # transformers 5.17 knows only the older name
        model.activation_checkpointing_enable = model.gradient_checkpointing_enable  # type: ignore[assignment,method-assign]
    with quiet_loading():
        return get_peft_model(model, config)


def load_lora(model: PreTrainedModel, saved: SavedAdapter, *, head: str | None) -> PeftModel:
    """Put a saved adapter on ``model``, which holds the module ``head`` that the method trains whole, if any.

    Raises:
        ModelError: It does not fit this base.
    """
    from peft import PeftModel

    load_adapter(model, saved, head)  # peft itself passes over tensors that are missing or surplus
    try:
        with quiet_loading():
            # peft would take the weights through a GPU, wherever the model is.
            return PeftModel.from_pretrained(model, str(saved.folder), torch_device=str(model.device))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        if is_machines_fault(error):
            raise
        raise ModelError(
            f"适配器 {saved.folder} 与基座对不上", found=first_line(error), todo="用训练时的那个基座（--model_name）。"
        ) from error


def unwrap(network: Any) -> PreTrainedModel:
    """The transformers model below a PeftModel (its LoRA layers stay in place), or the model itself."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network
