"""A data set on disk, an adapter trained on it, and a predictor without weights: what a whole evaluation needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.whole import HOSTILE, trained_on
from tests.fakes import BAD, GOOD, KeywordPredictor
from zhsenti.evaluation import command


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Train, dev and test files: words decide most labels, some rows contradict them, one is hostile, one leaks."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def rows(name: str, n: int) -> list[str]:
        lines = []
        for i in range(n):
            label = i % 2
            wrong = rng.random() < 0.12
            word = (GOOD if label != wrong else BAD)[i % 4]
            lines.append(f"{name}第{i}次来，房间{word}，位置{'靠近地铁' * (i % 9)}{i},{label},{'甲乙'[i % 3 == 0]}")
        return lines

    train, dev, test = rows("一月", 160), rows("二月", 200), rows("三月", 120)
    test[7] = f'"=HYPERLINK(""http://x"") 服务失望 {HOSTILE.replace(chr(34), chr(34) * 2)}",1,甲'
    test[8] = train[8]
    for name, lines in (("train", train), ("dev", dev), ("test", test)):
        (folder / f"{name}.csv").write_text("text,label,店\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def adapter(data, tmp_path) -> Path:
    return trained_on(tmp_path / "lora_adapter", data)


@pytest.fixture
def predictor(monkeypatch) -> KeywordPredictor:
    fake = KeywordPredictor(strength=4.0)
    monkeypatch.setattr(command, "load_predictor", lambda config, artifact: fake)
    monkeypatch.setattr(command, "check_base", lambda manifest, config: None)
    return fake
