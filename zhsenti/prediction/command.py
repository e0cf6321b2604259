"""``scripts/inference.py``: one text, a dialogue, or the demo sentences, as a table or as JSON lines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from zhsenti.config import InferenceConfig, cache_root, parse
from zhsenti.errors import ConfigError, ZhsentiError

if TYPE_CHECKING:
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
    if config.text is None and not config.interactive and not config.demo:
        raise ConfigError("没有说要预测什么", expected="--text、--interactive 或 --demo")
    from zhsenti.artifact import load_manifest

    load_manifest(config.model_path)  # a wrong path fails at once, before torch is imported
    from zhsenti.prediction.predictor import SentimentPredictor

    predictor = SentimentPredictor(
        config.model_path, model_name=config.model_name, precision=config.precision, merge=config.merge
    )
    if config.text is not None:
        show(config.text, predictor.predict(config.text, config.aspect), config.json)
    if config.demo:
        aspects = [config.aspect] * len(DEMO) if config.aspect else None
        for text, result in zip(DEMO, predictor.predict_batch(DEMO, aspects), strict=True):
            show(text, result, config.json)
    if config.interactive:
        dialogue(predictor, config)
    return 0


def show(text: str, result: Prediction, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"text": text, **result.to_dict()}, ensure_ascii=False), flush=True)
        return
    scores = "  ".join(f"{label} {p:.4f}" for label, p in result.scores.items())
    cut = f"（共 {result.tokens} token，已截断）" if result.truncated else ""
    shown = "".join(c if c.isprintable() else " " for c in text)  # control characters stay out of the terminal
    print(f"{shown}\n  → {result.label}  概率 {result.probability:.2%}    [{scores}]{cut}", flush=True)


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
            show(line, predictor.predict(line, config.aspect), config.json)
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
