"""``zhsenti predict``, ``scripts/inference.py``: one text, a dialogue, the demo sentences, or the rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.console import say
from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import parse, typed
from zhsenti.core.paths import user_path
from zhsenti.data.text import text_fault
from zhsenti.prediction.config import RAY, PredictConfig
from zhsenti.prediction.dialogue import dialogue
from zhsenti.prediction.show import show

if TYPE_CHECKING:
    from zhsenti.artifact import Artifact, Manifest
    from zhsenti.prediction.predictor import SentimentPredictor

DEMO = (
    "房间干净，服务热情，早餐种类也多，下次还会住。",
    "电池用了两天就鼓包，客服一直推脱，非常失望。",
    "这本书开头有点慢，但是后半部分越看越精彩，值得买。",
)
MAX_SHOWN = 60  # characters of a text that a command line shows again
# Flags that say nothing where no file is read.
OF_FILES = (
    "text_column", "aspect_column", "input_format", "output", "min_confidence", "review_output", "engine", *RAY,
)  # fmt: skip
EXAMPLES = (
    'zhsenti predict --text "这个产品质量非常好，值得购买！" --explain',
    "zhsenti predict --input 评论.xlsx --output 结果.xlsx",
    "zhsenti predict --input 评论.csv --output 结果.csv --min_confidence 0.9",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Raises:
        ZhsentiError: A user's mistake.
    """
    config, _ = parse(PredictConfig, argv, "用训练好的适配器预测中文情感", examples=EXAMPLES)
    _check(config)
    from zhsenti.artifact import open_artifact

    artifact = open_artifact(config.model_path)  # a wrong path fails at once, before torch is imported
    if config.input is not None:
        from zhsenti.prediction.batch.job import predict_file

        task, model = artifact.manifest.task, model_identity(artifact.manifest, config)
        predict_file(config, task, _Load(artifact, config), model)
        return 0
    predictor = _Load(artifact, config)()
    if config.text is not None:
        answer(predictor, config, config.text)
    if config.demo:
        for text in DEMO:
            answer(predictor, config, text)
    if config.interactive:
        dialogue(lambda text: answer(predictor, config, text))
    say(f"下一步：{_next(config)}")
    return 0


def model_identity(manifest: Manifest, config: PredictConfig) -> dict[str, Any]:
    """JSON: what decides the scores besides the rows."""
    return {
        "adapter": manifest.files,
        "task": manifest.task.to_dict(),
        "base": [manifest.base["model_id"], manifest.base["revision"]],
        "temperature": manifest.temperature,
        "precision": config.precision,
        "merge": config.merge,
    }


def answer(predictor: SentimentPredictor, config: PredictConfig, text: str) -> None:
    """Predict one text and print the result, explained if ``config`` says so.

    Raises:
        DataError: No door takes this text.
    """
    result, explanation = predictor.predict(text, config.aspect), None
    if config.explain:
        from zhsenti.prediction.explain import explain

        predicted = list(result.scores).index(result.label)
        explanation = explain(text, predictor.log_probs, config.aspect, predicted=predicted)
    show(text, result, config.json, explanation)


class _Load:
    """Makes the predictor. Ray's workers, in another process and folder, get it pickled and open the folder again."""

    def __init__(self, artifact: Artifact, config: PredictConfig) -> None:
        name = config.model_name
        self.folder: Path | Artifact = artifact
        self.base = str(user_path(name).absolute()) if name and user_path(name).exists() else name
        self.precision, self.merge = config.precision, config.merge

    def __call__(self) -> SentimentPredictor:
        from zhsenti.prediction.predictor import SentimentPredictor

        return SentimentPredictor.from_folder(
            self.folder, model_name=self.base, precision=self.precision, merge=self.merge
        )

    def __getstate__(self) -> dict[str, Any]:
        folder = self.folder if isinstance(self.folder, Path) else self.folder.folder
        return {**vars(self), "folder": folder.absolute()}


def _check(config: PredictConfig) -> None:
    """Raises ConfigError when nothing is asked for, what does not go together, or a text that no door takes."""
    if config.text is not None and (fault := text_fault(config.text)):
        if not config.text.strip():
            raise ConfigError("--text 是空的", todo='给一句评论，如 --text "房间很干净"。')
        raise ConfigError(f"--text 不能用：{fault}", found=repr(config.text)[:60], todo="去掉它或补上内容。")
    single = [name for name in ("text", "interactive", "demo", "explain") if getattr(config, name)]
    if config.input is None:
        if not single or single == ["explain"]:
            raise ConfigError("没有说要预测什么", expected="--text、--input、--interactive 或 --demo")
        if only := [name for name in OF_FILES if typed(config, name)]:
            raise ConfigError(f"--{only[0]} 只和 --input 一起用", todo="加上 --input 文件，或去掉它。")
    elif single:
        raise ConfigError(f"--input 不能和 --{single[0]} 一起用", todo="分两次运行。")
    elif config.input != "-" and typed(config, "input_format"):
        raise ConfigError("--input_format 只和 --input - 一起用", todo="去掉它：文件的格式看后缀。")
    elif config.engine != "ray" and (only := [name for name in RAY if typed(config, name)]):
        raise ConfigError(f"--{only[0]} 只和 --engine ray 一起用", todo="加上 --engine ray，或去掉它。")


def _next(config: PredictConfig) -> str:
    """The line to type next, and what it is for."""
    if config.text is not None and not config.explain:
        shown = config.text + (config.aspect or "")
        if len(shown) > MAX_SHOWN or not shown.isprintable():
            return "看判断的依据：同一条命令加上 --explain"
        return f"看判断的依据：{config.command('text', 'aspect')} --explain"
    if config.demo and not config.interactive:
        return f"试试自己的评论：{config.command('aspect')} --interactive"
    return f"预测整个文件：{config.command('aspect')} --input 评论.csv --output 结果.csv"
