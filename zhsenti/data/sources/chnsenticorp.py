"""ChnSentiCorp: 12,000 reviews of hotels, laptops and books, from the cache, the Hugging Face hub or ModelScope."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zhsenti.core.errors import DataError
from zhsenti.core.files import building
from zhsenti.core.paths import cache_root
from zhsenti.core.remote import reason_of, silenced
from zhsenti.data.config import DataConfig
from zhsenti.data.registry import Dataset
from zhsenti.data.sources.files import load_path
from zhsenti.data.sources.polarity import polar_indices
from zhsenti.data.split import DatasetSplits
from zhsenti.task import SentimentTask

NAME, REPOSITORY = "ChnSentiCorp", "lansinuote/ChnSentiCorp"
ROWS = {"train": 9600, "dev": 1200, "test": 1200}
Rows = Mapping[str, Sequence[Mapping[str, object]]]  # split -> its rows, each with "text" and "label"


def load(config: DataConfig, task: SentimentTask) -> DatasetSplits:
    """Read the cached copy; without one, fetch it, check it by its row counts, and cache it.

    Raises:
        DataError: It is not cached and no source gives it, or the task lacks one of the two labels.
    """
    indices = polar_indices(task, NAME)
    folder = cache_root() / "datasets" / NAME
    source = "本地缓存"
    if not all((folder / f"{split}.jsonl").is_file() for split in ROWS):
        source = _fetch(folder)
    as_written = SentimentTask(labels=("0", "1"), template=task.template)
    splits = load_path(folder, replace(config, text_column="text", label_column="label"), as_written)
    train, dev, test = (
        [replace(example, label=indices[example.label]) for example in examples]
        for examples in (splits.train, splits.dev, splits.test)
    )
    return replace(splits, name=NAME, source=source, train=train, dev=dev, test=test)


def _fetch(folder: Path) -> str:
    """Fill ``folder`` from the first source that gives all rows, and return that source's name."""
    failures = []
    sources: tuple[tuple[str, Callable[[], Rows]], ...] = (
        ("Hugging Face hub", _from_hub),
        ("ModelScope", _from_modelscope),
    )
    for source, fetch in sources:
        try:
            with silenced():
                rows = fetch()
        except Exception as error:  # libraries raise many kinds; all of them mean "not from here"
            failures.append(f"{source}：{reason_of(error, '数据集')}")
            continue
        counts = {split: len(of_split) for split, of_split in rows.items()}
        if counts != ROWS:
            failures.append(f"{source}：行数不对 {counts}")
            continue
        _store(rows, folder)
        return source
    raise DataError(
        f"取不到 {NAME}",
        expected=f"数据集 {REPOSITORY}",
        found="；".join(failures),
        todo="检查网络；国内可设 HF_ENDPOINT=https://hf-mirror.com；或用 --dataset 给出含 train/dev/test 的文件夹。",
    )


def _store(rows: Rows, folder: Path) -> None:
    with building(folder) as staging:
        for split, of_split in rows.items():
            lines = (json.dumps({"text": row["text"], "label": row["label"]}, ensure_ascii=False) for row in of_split)
            (staging / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _from_hub() -> Rows:
    from huggingface_hub import HfApi

    HfApi().dataset_info(REPOSITORY, timeout=10)  # fails at once where the hub is out of reach
    import datasets

    datasets.disable_progress_bars()
    by_split = datasets.load_dataset(REPOSITORY)
    return {split: list(by_split[hub]) for split, hub in (("train", "train"), ("dev", "validation"), ("test", "test"))}


def _from_modelscope() -> Rows:
    from modelscope.msdatasets import MsDataset

    return {
        split: list(MsDataset.load(REPOSITORY, split=remote))
        for split, remote in (("train", "train"), ("dev", "validation"), ("test", "test"))
    }


# ── what a review is about ────────────────────────────────────────────────────────────────────────────────────────

# fmt: off
DOMAINS = {
    "酒店": (
        "酒店", "宾馆", "旅馆", "饭店", "房间", "前台", "早餐", "入住", "服务员", "大堂", "携程", "星级", "房", "床",
        "住",
    ),
    "电脑": (
        "电脑", "笔记本", "本本", "机器", "机子", "屏幕", "显示器", "键盘", "鼠标", "触摸板", "电池", "系统", "显卡",
        "硬盘", "内存", "光驱", "风扇", "散热", "驱动", "配置", "面板", "开机", "京东", "xp", "vista", "usb", "bios",
    ),
    "图书": (
        "书", "作者", "阅读", "小说", "故事", "读", "出版", "翻译", "文字", "文笔", "内容", "情节", "主人公", "印刷",
        "孩子", "宝宝", "当当",
    ),
}
# fmt: on


def domain(text: str) -> str:
    """Hotel, laptop or book, whichever has the most of its words in the text; 不明 for none or a tie.

    ChnSentiCorp was put together from reviews of these three and does not say which is which.
    """
    counts = {name: sum(text.lower().count(word) for word in words) for name, words in DOMAINS.items()}
    best = max(counts.values())
    winners = [name for name, count in counts.items() if count == best]
    return winners[0] if best and len(winners) == 1 else "不明"


CHNSENTICORP = Dataset(
    load,
    rows=ROWS,
    slices={"领域（按关键词判断）": domain},
    # All rows as published, from wherever; as hashed by sources.report.
    sha256s=("14e0046a485507ae999ff9c138cb8c3cacded49bbdfa16cf8e7fe6438cc212a8",),
)
