"""Where the results of ``--input`` go, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhsenti.core.errors import ConfigError
from zhsenti.core.files import left_over, remove, temporary_name
from zhsenti.core.paths import user_path
from zhsenti.data.sniff import is_folder
from zhsenti.prediction.batch.outputs import ENDINGS
from zhsenti.prediction.config import PredictConfig


@dataclass(frozen=True)
class Destinations:
    """Where results go.

    Attributes:
        output: The result; None for standard output.
        review: The rows to be looked at by people; None where nobody asked for them.
    """

    output: Path | None
    review: Path | None

    @property
    def tabular(self) -> bool:
        """Whether one of them is a table, which has a column for every key of JSON objects."""
        return any(path is not None and path.suffix.lower() != ".jsonl" for path in (self.output, self.review))


def find_destinations(config: PredictConfig, files: list[Path]) -> Destinations:
    """Where the flags say that results go.

    Args:
        config: The flags.
        files: The inputs, which must not be written over; none for standard input.

    Raises:
        ConfigError: That is no place to write to, or the flags do not go together.
    """
    output = None if config.output in (None, "-") else _place(user_path(str(config.output)), files, "--output")
    review = None
    if config.min_confidence is not None:
        if config.review_output is None and output is None:
            raise ConfigError("结果写到标准输出时，--min_confidence 要有 --review_output", todo="给出复核文件的名字。")
        path = output.with_name(f"{output.stem}.review{output.suffix}") if output else Path()
        named = user_path(config.review_output) if config.review_output else path
        review = _place(named, files, "--review_output")
        if output and named.parent.resolve() / named.name == output.parent.resolve() / output.name:
            raise ConfigError("--review_output 就是 --output", todo="换一个文件名。")
    elif config.review_output is not None:
        raise ConfigError("--review_output 要和 --min_confidence 一起用", todo="加上 --min_confidence 0.9 之类的阈值。")
    if config.engine == "ray" and (output is None or not files):
        raise ConfigError("--engine ray 要从文件读、写到文件", todo="给出 --input 文件和 --output 文件。")
    return Destinations(output, review)


def _place(path: Path, files: list[Path], flag: str) -> Path:
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"不认识的输出类型：{path}", expected="、".join(ENDINGS), todo=f"改 {flag} 的后缀。")
    try:
        if not path.parent.is_dir():
            raise ConfigError(f"没有输出文件夹 {path.parent}", todo=f"先建好它，或改 {flag}。")
        if path.exists() and (is_folder(path) or any(path.samefile(file) for file in files)):
            why = "是文件夹" if path.is_dir() else "就是 --input"
            raise ConfigError(f"{flag} {path} {why}", todo="换一个文件名。")
        if len(files) > 1 and any(path.parent.samefile(file.parent) for file in files):
            raise ConfigError(f"{flag} {path} 在输入的文件夹里", todo="写到别处，免得下次把结果当输入。")
        probe = temporary_name(path)  # asking for permission is not enough
        probe.touch()
        probe.unlink()
    except OSError as error:
        found = error.strerror or str(error)
        raise ConfigError(f"不能写入 {flag} {path}", found=found, todo="换一个位置或名字。") from error
    return path


def remove_unfinished(path: Path) -> None:
    """Remove what writers of ``path`` left beside it when they were killed; to be called while nobody writes it."""
    for left in left_over(path):
        remove(left)
