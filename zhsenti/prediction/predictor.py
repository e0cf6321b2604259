"""The pure core: load once, then texts in, typed results out. Every door (CLI, evaluation, service) goes through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zhsenti.artifact import Manifest, load_manifest
from zhsenti.errors import ArtifactError, ConfigError, DataError, ModelError
from zhsenti.labels import SentimentTask
from zhsenti.methods import get_method
from zhsenti.methods.base import Encoded, Method, token_batches
from zhsenti.models.backbone import Precision, Tokenizer, pick_device, pick_precision, unwrap
from zhsenti.models.decoder import is_known
from zhsenti.models.int8 import Int8
from zhsenti.models.sources import ResolvedModel, resolve_model
from zhsenti.prediction.temperature import scale

# Of a forward pass. On two cores larger ones are no faster, only larger (docs/log.md, 2026-11-24).
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}
# An int8 score is taken again in full precision when its best two labels are nearer than this many standard deviations
# of int8's error, measured on PROBE when the model is loaded: an adapter's larger scores bring larger errors
# (docs/log.md, 2026-11-24), and a label should hardly ever depend on the precision.
CLOSE_CALL = 1.4
PROBE = (
    "房间不大但是很干净，前台态度也好，就是隔音差了点。",
    "用了三天就坏了，客服说要等半个月，太让人失望了。",
    "书的内容还可以，翻译得磕磕绊绊，读起来很累。",
    "物流很快，包装完好，和描述的一样，满意。",
    "早餐品种少，电梯要等很久，价格倒是不贵。",
    "屏幕清楚，声音也大，玩游戏不发热，值这个价。",
    "第一次来的时候觉得不错，这次完全变了，不会再来。",
    "没有想象中那么好，也没有别人说的那么差，凑合用吧。",
    "键盘手感一般，散热风扇很吵，晚上用不了。",
    "孩子非常喜欢，每天晚上都要我读给他听。",
    "位置偏僻，打车都打不到，服务员爱答不理。",
    "性价比高，已经推荐给同事了，下次还买。",
    "发货发错了颜色，联系之后马上给换了，处理得挺好。",
    "作者东拉西扯，看到一半就看不下去了，浪费钱。",
    "洗澡水忽冷忽热，空调遥控器没有电，折腾了一晚上。",
    "出差住过很多次，交通方便，房间安静，一直很稳定。",
)


@dataclass(frozen=True)
class Prediction:
    """label  the likeliest one;  confidence  its probability;  scores  every label's probability, in label order
    tokens  of the prompt before any cut;  truncated  whether part of the text was not read.
    """

    label: str
    confidence: float
    scores: dict[str, float]
    tokens: int
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class SentimentPredictor:
    """Predict with a trained adapter folder; method, task and base model come from its manifest.

    model_path  the ``lora_adapter`` folder;  model_name  another place of the same base;  merge  fold LoRA into the
    base first;  temperature  what log-probabilities are divided by, by default what the last evaluation stored in the
    folder (1 before any).  Raises ArtifactError (folder) or ModelError (base not found, or not the one trained on).

    >>> from zhsenti import SentimentPredictor
    >>> predictor = SentimentPredictor("experiments/label_scoring/lora_adapter")
    >>> predictor.predict("这个产品质量非常好，值得购买！").label
    '正面'
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        model_name: str | None = None,
        precision: str = "auto",
        merge: bool = False,
        temperature: float | None = None,
    ) -> None:
        folder = Path(model_path)
        self.manifest: Manifest | None = load_manifest(folder)
        self.temperature = self.manifest.temperature if temperature is None else temperature
        model = find_base(self.manifest, model_name)
        # Training's precision is what the adapter was fitted and checked in.
        wanted = self.manifest.base.get("precision", "auto") if precision == "auto" else precision
        self.precision = _usable(wanted)
        self._set_up(self.manifest.task, get_method(self.manifest.method), model)
        use_qlora = bool(self.manifest.base.get("use_qlora"))
        if self.precision.name == "int8" and use_qlora:
            raise ConfigError("适配器在 4 比特基座上训练，不能再用 int8", todo="去掉 --precision int8。")
        if merge and use_qlora:
            raise ConfigError("4 比特基座上训练的适配器不能无损合并", todo="去掉 --merge。")
        self._scorer = self.method.build(model.path, self.precision, adapter=folder, use_qlora=use_qlora, merge=merge)
        self._ready()

    def _ready(self) -> None:
        if self.precision.name == "int8":
            decoder: Any = unwrap(self._scorer.network).model
            if not is_known(decoder):
                raise ConfigError(
                    "这一类模型不能用 int8", expected="Qwen2、Qwen2.5、Qwen3", todo="去掉 --precision int8。"
                )
            self._int8 = Int8(decoder)
        self._scorer.eval()
        if self._int8:
            self._close_call = CLOSE_CALL * self._int8_error()

    def _int8_error(self) -> float:
        """Root mean square over PROBE of int8's error in the difference of two labels' log-probabilities."""
        items = [self.method.encode(text, aspect="服务" if self.task.has_aspect else None) for text in PROBE]
        rough = self._score(items, None)
        self._close_call = float("inf")
        error = rough - self._score(items, None)
        error -= error.mean(axis=1, keepdims=True)
        return float(np.sqrt(2 * (error**2).sum(axis=1).mean() / (error.shape[1] - 1)))

    @classmethod
    def from_base(
        cls, model_name: str = "auto", task: SentimentTask | None = None, *, precision: str = "auto"
    ) -> SentimentPredictor:
        """Zero-shot: label scoring with the same prompt and words, and no adapter."""
        self = cls.__new__(cls)
        self.manifest, self.precision = None, pick_precision(precision)
        model = resolve_model(model_name)
        self._set_up(task or SentimentTask(), get_method("label_scoring"), model)
        self._scorer = self.method.build(model.path, self.precision)
        self._ready()
        return self

    def _set_up(self, task: SentimentTask, method: type[Method], model: ResolvedModel) -> None:
        self.task, self.base = task, model
        self.method = method(task, Tokenizer(model.path))

    @property
    def method_name(self) -> str:
        return self.method.name

    def zero_shot(self) -> SentimentPredictor:
        """This predictor's base without its adapter. Label scoring shares the loaded weights; a classifier head has no
        LM head to share, and int8 weights hold the adapter, so there the base is loaded again."""
        if self.manifest is None:
            return self
        if self._int8 or self.method_name != "label_scoring" or not hasattr(self._scorer.network, "disable_adapter"):
            return SentimentPredictor.from_base(str(self.base.path), self.task, precision=self.precision.name)
        twin = SentimentPredictor.__new__(SentimentPredictor)
        twin.__dict__.update(self.__dict__)
        twin.manifest, twin.temperature = None, 1.0
        twin._without_adapter = self._scorer.network.disable_adapter  # type: ignore[assignment]
        return twin

    _without_adapter: Callable[[], AbstractContextManager[Any]] = nullcontext
    _int8: Int8 | None = None
    _close_call = 0.0
    temperature = 1.0

    def predict(self, text: str, aspect: str | None = None) -> Prediction:
        """One text. Raises DataError when it is empty."""
        return self.predict_batch([text], None if aspect is None else [aspect])[0]

    on_progress: Callable[[int], None] | None = None  # told how many texts of ``predict_batch`` a forward pass did

    def predict_batch(self, texts: Sequence[str], aspects: Sequence[str] | None = None) -> list[Prediction]:
        """One result a text, in order, whatever the lengths. Raises DataError naming the first empty text."""
        items = self._encode(texts, aspects)
        probabilities = np.exp(self._calibrated(self._score(items, self.on_progress)))
        results = []
        for item, row in zip(items, probabilities, strict=True):
            best = int(row.argmax())
            scores = {label: float(p) for label, p in zip(self.task.labels, row, strict=True)}
            results.append(
                Prediction(self.task.labels[best], scores[self.task.labels[best]], scores, item.tokens, item.truncated)
            )
        return results

    def log_probs(
        self,
        texts: Sequence[str],
        aspects: Sequence[str | None] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Class log-probabilities, float32 (N, C), rows in input order, columns in label order, after the temperature.

        ``progress`` is called with the number of texts done by each forward pass.
        """
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
            if not isinstance(text, str) or not text.strip():
                raise DataError(
                    f"第 {index + 1} 条文本为空或不是文字", found=repr(text)[:60], todo="去掉它或补上内容。"
                )
        return [
            self.method.encode(text, aspect=aspect)
            for text, aspect in zip(texts, aspects or [None] * len(texts), strict=True)
        ]

    @torch.inference_mode()
    def _score(self, items: list[Encoded], progress: Callable[[int], None] | None) -> np.ndarray:
        scores = np.empty((len(items), len(self.task.labels)), dtype=np.float32)
        autocast = torch.autocast(pick_device().type, self.precision.dtype, enabled=self.precision.autocast)
        with autocast, self._without_adapter():
            self._forward(items, np.arange(len(items)), scores, progress)
            if self._int8:
                best = np.sort(scores, axis=1)
                close = np.flatnonzero(best[:, -1] - best[:, -2] < self._close_call)
                with self._int8.off():
                    self._forward(items, close, scores, None)
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
        for batch in token_batches([len(items[i].ids) for i in rows], BATCH_TOKENS[pick_device().type]):
            trie = self.method.collate([items[i] for i in rows[batch]])["trie"].to(pick_device())
            scores[rows[batch]] = self._scorer(trie)["logits"].float().cpu().numpy()
            if progress:
                progress(len(batch))


def find_base(manifest: Manifest, model_name: str | None) -> ResolvedModel:
    """The base the adapter was trained on. Refuses another one: LoRA weights mean nothing elsewhere."""
    trained = manifest.base
    try:
        model = resolve_model(model_name or trained["model_id"])
    except ModelError as error:
        raise ArtifactError(
            f"找不到适配器的基座模型 {trained['model_id']}",
            found=error.problem,
            todo="用 --model_name 指出基座所在的文件夹，或先让它能被下载。",
        ) from error
    if model.revision != trained["revision"]:
        raise ArtifactError(
            "基座与训练时的不是同一个",
            expected=f"{trained['model_id']}，版本 {trained['revision'][:16]}",
            found=f"{model.model_id}，版本 {model.revision[:16]}",
            todo="用训练时的基座，或重新训练。",
        )
    return model


def _usable(name: str) -> Precision:
    """Training's precision where this machine has it; a GPU-trained fp16 adapter on a CPU runs in the CPU's best."""
    return pick_precision("auto" if name == "fp16" and not torch.cuda.is_available() else name)
