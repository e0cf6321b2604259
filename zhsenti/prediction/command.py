"""``zhsenti predict``, ``scripts/inference.py``: one text, a dialogue, the demo sentences, or the rows of a file."""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from zhsenti.core.errors import ConfigError, ZhsentiError
from zhsenti.core.flags import parse
from zhsenti.core.paths import cache_root, user_path
from zhsenti.prediction.config import InferenceConfig

if TYPE_CHECKING:
    from rich.text import Text

    from zhsenti.artifact import Manifest
    from zhsenti.prediction.explain import Explanation, Unit
    from zhsenti.prediction.predictor import Prediction, SentimentPredictor

DEMO = (
    "房间干净，服务热情，早餐种类也多，下次还会住。",
    "电池用了两天就鼓包，客服一直推脱，非常失望。",
    "这本书开头有点慢，但是后半部分越看越精彩，值得买。",
)


def main(argv: list[str] | None = None) -> int:
    config, _ = parse(InferenceConfig, argv, "用训练好的适配器预测中文情感")
    if config.text is not None and not config.text.strip():
        raise ConfigError("--text 是空的", todo='给一句评论，如 --text "房间很干净"。')
    _check_input(config)
    from zhsenti.artifact import open_artifact

    manifest = open_artifact(config.model_path).manifest  # a wrong path fails at once, before torch is imported

    folder, name = user_path(config.model_path).absolute(), config.model_name  # Ray's workers stand in another folder
    base = str(user_path(name).absolute()) if name and user_path(name).exists() else name

    def load() -> SentimentPredictor:
        from zhsenti.prediction.predictor import SentimentPredictor

        return SentimentPredictor.from_folder(folder, model_name=base, precision=config.precision, merge=config.merge)

    if config.input is not None:
        from zhsenti.prediction.batch.job import predict_file

        predict_file(config, manifest.task, load, model_identity(manifest, config))
        return 0
    predictor = load()
    if config.text is not None:
        answer(predictor, config, config.text)
    if config.demo:
        for text in DEMO:
            answer(predictor, config, text)
    if config.interactive:
        dialogue(predictor, config)
    return 0


def model_identity(manifest: Manifest, config: InferenceConfig) -> dict[str, Any]:
    """JSON: what decides the scores besides the rows."""
    return {
        "adapter": manifest.files,
        "task": manifest.task.to_dict(),
        "base": [manifest.base["model_id"], manifest.base["revision"]],
        "temperature": manifest.temperature,
        "precision": config.precision,
        "merge": config.merge,
    }


def _check_input(config: InferenceConfig) -> None:
    """Raises ConfigError when nothing is asked for, or what does not go together."""
    single = [name for name in ("text", "interactive", "demo", "explain") if getattr(config, name)]
    if config.input is None:
        if not single or single == ["explain"]:
            raise ConfigError("没有说要预测什么", expected="--text、--input、--interactive 或 --demo")
        only = [
            name
            for name in ("output", "text_column", "aspect_column", "min_confidence", "review_output")
            if getattr(config, name) is not None
        ]
        only += ["engine"] if config.engine != "local" else []
        if only:
            raise ConfigError(f"--{only[0]} 只和 --input 一起用", todo="加上 --input 文件，或去掉它。")
    elif single:
        raise ConfigError(f"--input 不能和 --{single[0]} 一起用", todo="分两次运行。")


def answer(predictor: SentimentPredictor, config: InferenceConfig, text: str) -> None:
    result, explanation = predictor.predict(text, config.aspect), None
    if config.explain:
        from zhsenti.prediction.explain import explain

        predicted = list(result.scores).index(result.label)
        explanation = explain(text, predictor.log_probs, config.aspect, predicted=predicted)
    show(text, result, config.json, explanation)


def show(text: str, result: Prediction, as_json: bool, explanation: Explanation | None = None) -> None:
    if as_json:
        from zhsenti.data.text import readable

        extra = {"explanation": explanation.model_dump()} if explanation else {}
        print(json.dumps({"text": readable(text), **result.to_dict(), **extra}, ensure_ascii=False), flush=True)
        return
    scores = "  ".join(f"{label} {p:.4f}" for label, p in result.scores.items())
    cut = f"（共 {result.tokens} token，已截断）" if result.truncated else ""
    verdict = f"  → {result.label}  概率 {result.confidence:.2%}    [{scores}]{cut}"
    if explanation:
        show_explanation(text, verdict, result, explanation)
    else:
        print(f"{_harmless(text)}\n{verdict}", flush=True)


def _harmless(text: str) -> str:
    """Control characters stay out of the terminal; every character keeps its place."""
    return "".join(c if c.isprintable() else " " for c in text)


STRONGEST = 6  # rows of the table
# Backgrounds from weakest to strongest, under black letters; effects below the smallest share stay plain.
GREEN, RED, SMALLEST = ((222, 242, 222), (80, 190, 90)), ((250, 224, 220), (240, 110, 95)), 0.1


def show_explanation(text: str, verdict: str, result: Prediction, explanation: Explanation) -> None:
    """The text with its words on green (for the label) or red, the verdict, how to read it, and the strongest units.

    Everything that colour says stands in the table too: NO_COLOR, pipes and colour-blind readers lose nothing.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from zhsenti.prediction.explain import word_units

    console = Console(highlight=False, markup=False)
    console.width = min(console.width, 80)
    coloured = Text(_harmless(text), overflow="fold")
    largest = max((abs(unit.effect) for unit in explanation.words), default=0.0)
    for unit in explanation.words:
        if abs(unit.effect) > SMALLEST * largest:
            coloured.stylize(_background(unit.effect / largest), unit.start, unit.end)
    console.print(coloured)
    print(verdict)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("词", "小句"):
        table.add_column(title)
        table.add_column("下降", justify="right")
    for pair in zip_longest(_strongest(explanation.words, 16), _strongest(explanation.clauses, 36), fillvalue=("", "")):
        table.add_row(*(cell for cells in pair for cell in cells))
    if table.rows:
        console.print(f"  读法：去掉它，“{result.label}”的对数几率下降多少；正数（绿）支持，负数（红）反对。")
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
    else:
        console.print("  去掉任何一个词或小句，判断几乎不变。")
    if (total := len(word_units(text))) > len(explanation.words):
        console.print(f"  全文 {total} 个词，只看了影响最大的小句里的 {len(explanation.words)} 个。")
    if result.truncated:
        console.print("  文本过长，中段没有读：那里的词不影响判断。")
    sys.stdout.flush()


def _strongest(units: list[Unit], width: int) -> list[tuple[Text, str]]:
    """Rows of the table, the greatest effect first: at most ``width`` columns of text, and the signed effect."""
    from rich.text import Text

    rows = []
    for unit in sorted(units, key=lambda unit: -abs(unit.effect))[:STRONGEST]:
        if abs(unit.effect) >= 0.005:  # what two decimals can show
            text = Text(_harmless(unit.text))
            text.truncate(width, overflow="ellipsis")
            rows.append((text, f"{unit.effect:+.2f}"))
    return rows


def _background(share: float) -> str:
    """Style of a word whose effect is ``share`` in [-1, 1] of the largest."""
    weak, strong = GREEN if share > 0 else RED
    red, green, blue = (round(w + (s - w) * abs(share)) for w, s in zip(weak, strong, strict=True))
    return f"black on #{red:02x}{green:02x}{blue:02x}"


def dialogue(predictor: SentimentPredictor, config: InferenceConfig) -> None:
    """Read a line, answer it, until quit, exit or Ctrl-D; arrow keys recall history across sessions."""
    asking = sys.stdin.isatty()
    if asking:
        _load_history()
        print("输入评论后回车；quit、exit 或 Ctrl-D 退出。")
    while True:
        try:
            line = input("评论> " if asking else "")
        except EOFError:
            break
        if line.strip().lower() in ("quit", "exit"):
            break
        if not line.strip():
            continue
        try:
            answer(predictor, config, line)
        except ZhsentiError as error:  # one bad line does not end the dialogue
            print(f"错误：{error}", file=sys.stderr)
    if asking:
        print("再见。")


def _load_history() -> None:
    try:
        import atexit
        import readline

        history = cache_root() / "history"
        history.parent.mkdir(parents=True, exist_ok=True)
        if history.exists():
            readline.read_history_file(history)
        readline.set_history_length(1000)
        atexit.register(readline.write_history_file, history)
    except (ImportError, OSError):
        pass  # no readline (Windows) or no home: the dialogue works without history
