"""The pure core: load once, then texts in, typed results out. Every door (CLI, evaluation, service) goes through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zhsenti.artifact import Artifact, Manifest, check_was_read_whole, open_artifact
from zhsenti.core.errors import ConfigError, DataError, ModelError
from zhsenti.data.text import text_fault
from zhsenti.methods import ZERO_SHOT, get_method
from zhsenti.methods.base import Scorer
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import Tokenizer, unwrap
from zhsenti.models.decoder import is_known
from zhsenti.models.failures import naming_device_loss, naming_load_failures
from zhsenti.models.int8 import Int8
from zhsenti.models.precision import Precision, pick_device, pick_precision
from zhsenti.models.sources import ResolvedModel, resolve_model
from zhsenti.prediction.bases import find_base, usable_precision
from zhsenti.prediction.close_calls import PROBE, close_call, near
from zhsenti.prediction.passes import Passes, pass_tokens
from zhsenti.prediction.result import Prediction
from zhsenti.prediction.temperature import scale
from zhsenti.task import SentimentTask


class SentimentPredictor:
    """Texts in, typed results out. Made by ``from_folder`` (a trained adapter) or ``from_base`` (zero-shot).

    >>> from zhsenti import SentimentPredictor
    >>> predictor = SentimentPredictor.from_folder("experiments/label_scoring/lora_adapter")
    >>> predictor.predict("这个产品质量非常好，值得购买！").label
    '正面'

    Attributes:
        passes: Cuts texts into forward passes that fit the memory.
    """

    def __init__(
        self,
        scorer: Scorer,
        base: ResolvedModel,
        precision: Precision,
        *,
        manifest: Manifest | None = None,
        temperature: float = 1.0,
        inside: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """A predictor of parts that are loaded already.

        Args:
            scorer: The method and its network.
            base: The base that the network was made of.
            precision: What it computes in.
            manifest: Of the adapter in the network; None where there is none.
            temperature: What log-probabilities are divided by.
            inside: A block that every forward pass runs in, such as one that switches an adapter off.

        Raises:
            ConfigError: int8 is asked for where it cannot be had.
        """
        self.method, self.task, self.base, self.precision = scorer.method, scorer.method.task, base, precision
        self.manifest, self.temperature = manifest, temperature
        self._scorer, self._inside = scorer, inside
        self.passes = Passes(pass_tokens(pick_device()))
        self._int8: Int8 | None = None
        self._close_call = 0.0
        if precision.name == "int8":
            decoder: Any = unwrap(scorer.network).model
            if not is_known(decoder):
                raise ConfigError(
                    "这一类模型不能用 int8", expected="Qwen2、Qwen2.5、Qwen3", todo="去掉 --precision int8。"
                )
            with naming_load_failures("关掉别的占内存的程序，或去掉 --precision int8。"):
                self._int8 = Int8(decoder)
        scorer.eval()
        if self._int8:
            items = [self.method.encode(text, aspect="服务" if self.task.has_aspect else None) for text in PROBE]
            rough = self._score(items, None)
            self._close_call = float("inf")  # all of them again
            self._close_call = close_call(rough, self._score(items, None))

    @classmethod
    def from_folder(
        cls,
        folder: str | Path | Artifact,
        *,
        model_name: str | None = None,
        precision: str = "auto",
        merge: bool = False,
        temperature: float | None = None,
    ) -> SentimentPredictor:
        """Predict with a trained adapter; method, task and base model come from its folder.

        Args:
            folder: The ``lora_adapter`` folder, or what ``open_artifact`` made of it.
            model_name: Another place of the same base.
            precision: What to compute in; ``auto`` is what the adapter was trained and checked in.
            merge: Fold LoRA into the base first.
            temperature: What log-probabilities are divided by; by default what the last evaluation stored in the
                folder (1 before any).

        Raises:
            ArtifactError: The folder is not whole or not for use, or its base is not found or another one.
            ModelError: The base or the adapter cannot be loaded.
            ConfigError: Settings that do not go together.
        """
        artifact = folder if isinstance(folder, Artifact) else open_artifact(folder)
        manifest = artifact.manifest
        base = find_base(manifest, model_name)
        chosen = usable_precision(manifest.base.get("precision", "auto") if precision == "auto" else precision)
        use_qlora = bool(manifest.base.get("use_qlora"))
        if chosen.name == "int8" and use_qlora:
            raise ConfigError("适配器在 4 比特基座上训练，不能再用 int8", todo="去掉 --precision int8。")
        if merge and use_qlora:
            raise ConfigError("4 比特基座上训练的适配器不能无损合并", todo="去掉 --merge。")
        method = get_method(manifest.method)(manifest.task, Tokenizer(base.path))
        scorer = method.build(base.path, chosen, adapter=artifact.adapter, use_qlora=use_qlora, merge=merge)
        check_was_read_whole(artifact)
        kept = manifest.temperature if temperature is None else temperature
        return cls(scorer, base, chosen, manifest=manifest, temperature=kept)

    @classmethod
    def from_base(
        cls, model_name: str = "auto", task: SentimentTask | None = None, *, precision: str = "auto"
    ) -> SentimentPredictor:
        """Zero-shot: the method that works untrained, with the same prompt and words, and no adapter.

        Raises:
            ModelError: The base is not found or cannot be loaded.
        """
        chosen, base = pick_precision(precision), resolve_model(model_name)
        method = get_method(ZERO_SHOT)(task or SentimentTask(), Tokenizer(base.path))
        return cls(method.build(base.path, chosen), base, chosen)

    @property
    def method_name(self) -> str:
        """Registry key of the method."""
        return self.method.name

    @property
    def network(self) -> nn.Module:
        """What the method scores with: a scoring model or a transformers model, with the adapter on it."""
        return unwrap(self._scorer.network)

    @property
    def budget(self) -> int:
        """Tokens of a forward pass, at most: halved whenever memory ran out, and it stays so."""
        return self.passes.budget

    def zero_shot(self) -> SentimentPredictor:
        """This predictor's base without its adapter.

        A method that works untrained shares the loaded weights. Another one's network has no output layer for it, and
        int8 weights hold the adapter, so there the base is loaded again.
        """
        if self.manifest is None:
            return self
        switch_off = getattr(self._scorer.network, "disable_adapter", None)
        if self._int8 or not self.method.works_untrained or switch_off is None:
            bare = SentimentPredictor.from_base(str(self.base.path), self.task, precision=self.precision.name)
        else:
            bare = SentimentPredictor(self._scorer, self.base, self.precision, inside=switch_off)
        bare.passes = self.passes  # the memory is the same
        return bare

    def predict(self, text: str, aspect: str | None = None) -> Prediction:
        """One text.

        Raises:
            DataError: No door takes this text (empty, invisible characters only, too long …).
            MemoryShortError: There is not even memory for this text alone.
        """
        return self.predict_batch([text], None if aspect is None else [aspect])[0]

    def predict_batch(
        self,
        texts: Sequence[str],
        aspects: Sequence[str] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """One result a text, in order, whatever the lengths.

        Args:
            texts: The texts.
            aspects: One for each text, where the task asks for one.
            progress: Told after each forward pass how many texts it did.

        Raises:
            DataError: A text that no door takes; the first one is named.
            MemoryShortError: There is not even memory for one of them alone.
            DeviceLostError: The GPU computes nothing more for this process.
        """
        items = self._encode(texts, aspects)
        probabilities = np.exp(self._calibrated(self._score(items, progress)))
        return [
            Prediction.of(self.task.labels, row, item.tokens, item.truncated)
            for item, row in zip(items, probabilities, strict=True)
        ]

    def log_probs(
        self,
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Class log-probabilities, float32 (N, C) in input and label order, after the temperature; else as above."""
        return self._calibrated(self._score(self._encode(texts, aspects), progress))

    def _calibrated(self, log_probs: np.ndarray) -> np.ndarray:
        """T = 1 leaves every bit as it is."""
        if self.temperature == 1.0:
            return log_probs
        return scale(log_probs, self.temperature).astype(np.float32)

    def _encode(self, texts: Sequence[str], aspects: Sequence[str | None] | None) -> list[Encoded]:
        if isinstance(texts, str):
            raise DataError("predict_batch 要的是文本列表", found="一个字符串", todo="单条文本请用 predict(text)。")
        if aspects is not None and len(aspects) != len(texts):
            raise DataError("方面与文本数目不同", expected=f"{len(texts)} 个", found=f"{len(aspects)} 个")
        for index, text in enumerate(texts):
            fault = text_fault(text) if isinstance(text, str) else "不是文字"
            if fault:
                raise DataError(
                    f"第 {index + 1} 条文本不能用：{fault}", found=repr(text)[:60], todo="去掉它或补上内容。"
                )
        return [
            self.method.encode(text, aspect=aspect)
            for text, aspect in zip(texts, aspects or [None] * len(texts), strict=True)
        ]

    @torch.inference_mode()
    def _score(self, items: list[Encoded], progress: Callable[[int], None] | None) -> np.ndarray:
        scores = np.empty((len(items), len(self.task.labels)), dtype=np.float32)
        autocast = torch.autocast(pick_device().type, self.precision.dtype, enabled=self.precision.autocast)
        with naming_device_loss(), autocast, self._inside():
            self._forward(items, np.arange(len(items)), scores, progress)
            if self._int8:
                with self._int8.off():
                    self._forward(items, near(scores, self._close_call), scores, None)
        if np.isnan(scores).any():
            raise ModelError(
                f"模型给出的不是数（NaN）：{self.base.model_id}",
                found=f"{int(np.isnan(scores).any(axis=1).sum())} 条",
                todo="基座的权重坏了，换一个完整的；或换 --precision fp32。",
            )
        return scores

    def _forward(
        self, items: list[Encoded], rows: np.ndarray, scores: np.ndarray, progress: Callable[[int], None] | None
    ) -> None:
        """Fill ``scores`` (N, C) in ``rows``."""

        def compute(batch: np.ndarray) -> None:
            trie = self.method.collate([items[i] for i in rows[batch]])["trie"].to(pick_device())
            scores[rows[batch]] = self._scorer(trie)["logits"].float().cpu().numpy()
            if progress:
                progress(len(batch))

        self.passes.run([len(items[i].ids) for i in rows], compute)
