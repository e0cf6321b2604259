"""What an export format is: it writes a model down, reads it back, and says beforehand what it cannot take."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zhsenti.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from transformers import PreTrainedModel

    from zhsenti.artifact import Manifest
    from zhsenti.methods.base import Method

AUTO = "auto"
BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "q8_0": 1.07}  # of one weight


@dataclass(frozen=True)
class Reloaded:
    """An export as its own runtime reads it from the disk.

    Attributes:
        runtime: The runtime's name and version.
        score: From the prompt ids of B rows to class log-probabilities, float32 (B, C).
    """

    runtime: str
    score: Callable[[Sequence[list[int]]], np.ndarray]


class Format(ABC):
    """One form that a model can be exported in. A new one is a file and a line in ``zhsenti.export.formats``.

    What it cannot take it says of the method's attributes; it never asks which method it has.

    Attributes:
        name: What users type after ``--format``, the key in the registry.
        dtypes: Types of weights that it can hold.
        default_dtype: The one taken where nobody chose; "" for the one that the adapter was trained in.
        usage: How to open the folder ``{folder}``, for the user (Chinese).
        takes_text: Whether programs that run it are sent prompts as text rather than as ids.
        libraries: Names of the packages of the extra ``export`` that it needs.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]]
    default_dtype: ClassVar[str] = ""
    usage: ClassVar[str]
    takes_text: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()

    # ── before any work ───────────────────────────────────────────────────────────────────────────────────────────

    def check_libraries(self) -> None:
        """See that the packages it needs are there.

        Raises:
            ConfigError: One is missing.
        """
        missing = [name for name in self.libraries if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"导出成 {self.name} 要另装几个库",
                found=f"没有 {'、'.join(missing)}",
                todo='pip install "zhsenti[export]"',
            )

    def pick_dtype(self, asked: str, trained: str) -> str:
        """The type of the weights.

        Args:
            asked: What the user chose, or ``auto``.
            trained: The precision that the adapter was trained in.

        Raises:
            ConfigError: The format, or programs that run it, do not take it.
        """
        if asked == AUTO:
            return self.default_dtype or (trained if trained in self.dtypes else self.dtypes[0])
        if asked not in self.dtypes:
            raise ConfigError(
                f"{self.name} 不能用 --dtype {asked}",
                expected="、".join((AUTO, *self.dtypes)),
                todo="换一个类型；q8_0 只有 gguf 有，要更小的 CPU 模型就用 gguf 的 q8_0 或 openvino 的 fp16。",
            )
        return asked

    def refuse(self, manifest: Manifest, method: type[Method]) -> None:
        """Look at what a saved folder says of itself, before its base is fetched or opened.

        Args:
            manifest: Of the adapter.
            method: The adapter's, as a class.

        Raises:
            ConfigError: Such an adapter cannot be exported in this form.
        """
        if manifest.base.get("use_qlora"):
            raise ConfigError(
                "4 比特基座上训练的适配器不能导出",
                found="它补的是量化后的权重，并入原来的权重，结果就变了",
                todo="不加 --use_qlora 重新训练，再导出。",
            )

    def refuse_loaded(self, method: Method, network: nn.Module) -> None:  # noqa: B027  # most formats refuse nothing
        """Look at what only the loaded model tells, such as how many tokens the label words have.

        Args:
            method: The adapter's, with its task.
            network: What it scores with.

        Raises:
            ConfigError: This model cannot be exported in this form.
        """

    def room(self, dtype: str) -> float:
        """Bytes on the disk for each weight, at most, while the export is written."""
        return BYTES[dtype]

    # ── the work ──────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def write(self, method: Method, network: PreTrainedModel, folder: Path, dtype: str) -> None:
        """Write the model into ``folder``, where the tokenizer's files are already.

        Args:
            method: The adapter's.
            network: The base with the adapter folded in, float32 on the CPU; may be changed.
            folder: An existing folder.
            dtype: One of ``dtypes``.

        Raises:
            ConfigError: The form has no place for this kind of base.
        """

    @abstractmethod
    def load(self, method: Method, folder: Path) -> Reloaded:
        """Read the export back from the disk, by the program that will run it or by one that reads it the same way."""
