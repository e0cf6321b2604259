"""``zhsenti doctor``: each check in good and bad surroundings, and what holds for all of them."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from zhsenti.data.registry import DATASETS
from zhsenti.doctor import accelerator, cache, command, findings, libraries, machine, network
from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, SKIPPED, Finding, guarded, later, safe
from zhsenti.doctor.probe import Imported, probe
from zhsenti.models.embedded import seal_model
from zhsenti.training.plan import Shape, memory_bytes

ROOT = Path(__file__).resolve().parents[1]
Usage = namedtuple("Usage", "total used free")


def one(found) -> Finding:
    """The only finding; whoever is not OK must say what to do."""
    (finding,) = found
    assert finding.status in (OK, SKIPPED) or finding.todo
    return finding


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch, tmp_path):
    """An empty cache, and none of the developer's proxies, tokens and endpoints."""
    monkeypatch.setenv("ZHSENTI_CACHE", str(tmp_path / "cache"))
    names = (*network.PROXIES, *network.TOKENS, *network.OFFLINE, "HF_ENDPOINT", "MODELSCOPE_ENDPOINT")
    for name in (*names, "MODELSCOPE_DOMAIN", "CUDA_VISIBLE_DEVICES", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


# ── the machine ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_python(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/home/me/.venv")
    assert one(machine.python()).status == OK
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    assert ".venv" in one(machine.python()).todo
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert (one(machine.python()).status, "32 位" in one(machine.python()).found) == (PROBLEM, True)
    monkeypatch.setattr(sys, "maxsize", 2**63 - 1)
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    assert one(machine.python()).status == PROBLEM


@pytest.mark.parametrize(("free", "status"), [(1.2e9, PROBLEM), (3e9, NOTICE), (5e9, OK), (20e9, OK)])
def test_memory(monkeypatch, free, status):
    monkeypatch.setattr(machine, "CGROUPS", ())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Ram", "total available")(32e9, free))
    found = one(machine.memory())
    assert found.status == status
    assert ("1.5B" in found.found) == (free == 20e9)


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Ram", "total available")(32e9, 20e9))
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(machine, "CGROUPS", ((tmp_path / "none", tmp_path / "none"), (limit, used)))
    used.write_text("1500000000\n")
    limit.write_text("max\n")
    assert one(machine.memory()).status == OK
    limit.write_text("2000000000\n")
    found = one(machine.memory())
    assert found.status == PROBLEM
    assert "容器限额 2.0 GB，还可用 0.5 GB" in found.found


def test_memory_figures_are_the_plans():
    small, larger = (
        Shape(24, 896, 896, 128, 4864, 151936 * 896),
        Shape(28, 1536, 1536, 256, 8960, 151936 * 1536),
    )
    default = partial(memory_bytes, tokens=1536, weight_bytes=2, checkpointing=False, qlora=False, lora_r=8)
    assert default(small) == pytest.approx(machine.TRAIN_DEFAULT, rel=0.05)
    assert default(small, weight_bytes=4) == pytest.approx(machine.TRAIN_DEFAULT_FP32, rel=0.05)
    assert default(larger) == pytest.approx(machine.TRAIN_LARGER, rel=0.05)
    least = default(small, tokens=256, checkpointing=True, qlora=True)
    assert least == pytest.approx(machine.TRAIN_SMALLEST, rel=0.05)


def test_disks_with_room_and_without(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(1e12, 0, 9e11))
    assert [found.status for found in machine.disks()] == [OK, OK]
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(1e12, 0, 1e8))
    kept, here = machine.disks()
    assert (kept.status, here.status) == (PROBLEM, PROBLEM)
    assert "ZHSENTI_CACHE" in kept.todo
    assert "--output_dir" in here.todo
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "word"), [(errno.EROFS, "只读"), (errno.EACCES, "权限"), (errno.ENOSPC, "写满"), (errno.EIO, "写不了")]
)
def test_disks_that_cannot_be_written(monkeypatch, tmp_path, number, word):
    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for found in machine.disks():
        assert (found.status, word in found.found) == (PROBLEM, True)
    sealed_model(tmp_path / "cache" / "models" / "embedded")
    kept, here = machine.disks()
    assert (kept.status, here.status) == (NOTICE, PROBLEM), "a model that is there can still be read"


def test_a_cache_folder_that_is_a_file(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("")
    assert next(iter(machine.disks())).status == PROBLEM


def test_limits(monkeypatch, tmp_path):
    import resource

    monkeypatch.setattr(machine, "SHM", tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(8e9, 0, 8e9))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    assert [found.status for found in machine.limits()] == [OK, OK]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(64 * 2**20, 0, 64 * 2**20))
    files, shared = machine.limits()
    assert (files.status, files.todo) == (NOTICE, "ulimit -n 4096")
    assert (shared.status, "--shm-size" in shared.todo) == (NOTICE, True)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    assert next(iter(machine.limits())).todo.startswith("ulimit -n 512")


def test_encodings(monkeypatch):
    monkeypatch.setattr(machine.locale, "getpreferredencoding", lambda _: "UTF-8")
    assert one(machine.encodings("utf8")).status == OK
    found = one(machine.encodings("gbk"))
    assert (found.status, "标准输出 gbk" in found.found) == (NOTICE, True)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "unset PYTHONIOENCODING" in one(machine.encodings("ascii")).todo


# ── packages ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def clone(tmp_path):
    """A repository that needs packaging and psutil, with its constraints."""

    def clone(needs: list[str], constraints: str) -> Path:
        root = tmp_path / "clone"
        root.mkdir()
        (root / "pyproject.toml").write_text(f"[project]\nname = 'zhsenti'\ndependencies = {needs}\n")
        (root / "constraints.txt").write_text(constraints)
        return root

    return clone


def test_versions_as_pinned(clone):
    psutil_version = metadata.version("psutil")
    root = clone(["psutil>=1", "no-such; python_version < '3'"], f"# pins\npsutil=={psutil_version}\nunused==1\n")
    found = one(libraries.versions(root))
    assert (found.status, found.found) == (OK, "1 个都在，版本与 constraints.txt 一致")


def test_missing_broken_and_other_versions_are_all_listed(clone):
    needs = ["no-such-one", "no_such.two", "psutil>=1", "filelock>=999"]
    missing, broken, other = libraries.versions(clone(needs, "no-such-two==3.1\npsutil==1.0\n"))
    assert (missing.status, broken.status, other.status) == (PROBLEM, PROBLEM, NOTICE)
    assert "no-such-one（任意版本）、no-such-two（3.1）" in missing.found
    assert "filelock" in broken.found
    assert f"psutil {metadata.version('psutil')}（应为 1.0）" in other.found
    assert all("install -r requirements.txt" in found.todo for found in (missing, broken, other))


def test_what_a_requirement_needs_is_checked_too(clone):
    """huggingface-hub asks for filelock, which is not named here."""
    *_, other = libraries.versions(clone(["huggingface-hub"], "filelock==0.1\n"))
    assert "filelock" in other.found


def test_versions_of_a_wheel_are_judged_by_its_own_requirements(monkeypatch):
    monkeypatch.setattr(libraries, "clone_root", lambda: None)
    monkeypatch.setattr(libraries.metadata, "requires", lambda name: ["psutil>=999"] if name == "zhsenti" else [])
    found = one(libraries.versions())
    assert (found.status, "install --upgrade psutil" in found.todo) == (PROBLEM, True)


def test_this_clone_is_recognised():
    assert findings.clone_root() == ROOT
    assert libraries._pins(ROOT)["torch"] == "2.13.0"


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """Put a module of this source where the probing process finds it before the real one."""

    def fake(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return fake


def test_libraries_that_raise_crash_exit_or_hang_do_not_stop_the_others(fake_library):
    fake_library("good", "print('noise')")
    fake_library("raising", "raise OSError('libcudart.so.12: no such file\\nmore')")
    fake_library("crashing", "import os; os.abort()")
    fake_library("exiting", "import os; os._exit(3)")
    fake_library("leaving", "raise SystemExit(0)")
    names = ("good", "absent", "raising", "crashing", "exiting", "leaving", "json")
    found = probe(names, seconds=60)
    assert list(found) == list(names)
    assert found["good"].error == found["json"].error == ""
    assert found["raising"].error == "OSError: libcudart.so.12: no such file"
    assert "SIGABRT" in found["crashing"].error
    assert "代码 3" in found["exiting"].error
    assert found["leaving"].error == "SystemExit: 0"
    good, *bad = reversed(list(libraries.imports(found)))
    assert (good.status, "2 个库" in good.found) == (OK, True)
    assert {finding.status for finding in bad} == {PROBLEM}
    assert "没有安装：absent" in bad[-1].found


def test_a_library_that_hangs_is_ended(fake_library):
    fake_library("hanging", "import time; time.sleep(60)")
    start = time.monotonic()
    found = probe(("json", "hanging", "string"), seconds=2)
    assert time.monotonic() - start < 20
    assert found["json"].error == ""
    assert "还没有导入完" in found["hanging"].error
    assert "还没有轮到" in found["string"].error


@pytest.mark.parametrize("source", [None, "raise ImportError('undefined symbol: _ZN5torch')", "import os; os.abort()"])
def test_a_torch_that_is_missing_or_broken(fake_library, source):
    if source is None:
        fake_library("torch", "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    else:
        fake_library("torch", source)
    found = probe(("torch", "matplotlib"))
    assert one(accelerator.torch(found["torch"])).status == PROBLEM
    assert one(accelerator.gpu(found["torch"], accelerator.Driver())).status == NOTICE
    assert one(accelerator.gpu(found["torch"], accelerator.Driver((("RTX", "535"),)))).todo == "先修好 torch。"
    assert one(libraries.font(found)).status in (OK, NOTICE)
    missing, good = libraries.imports(found)
    assert (missing.status, good.status) == (PROBLEM, OK)
    assert ("requirements.txt" in missing.todo) == (source is None)
    assert source is None or "--force-reinstall --no-deps torch==2.13.0" in missing.todo


def test_the_real_torch_gives_its_facts():
    import torch

    found = probe(("torch",))["torch"]
    assert found.error == ""
    assert found.facts["version"] == torch.__version__
    assert found.facts["precision"] in ("bf16", "fp16", "fp32")


def test_font(fake_library):
    assert one(libraries.font({"matplotlib": Imported(facts={"font": "SimHei"})})).found == "SimHei"
    assert one(libraries.font({"matplotlib": Imported(facts={"font": None})})).status == NOTICE
    assert one(libraries.font({"matplotlib": Imported("ImportError: x")})).status == NOTICE


# ── torch and the GPU ─────────────────────────────────────────────────────────────────────────────────────────────

CPU = {"version": "2.13.0+cpu", "cuda": None, "threads": 4, "gpus": [], "gpu_error": "", "precision": "bf16"}
CARD = {"name": "RTX 4090", "free": 22e9, "total": 24e9, "bf16": True, "error": ""}
RTX = accelerator.Driver((("RTX 4090", "550.54"),))


def facts(**changes) -> Imported:
    return Imported(facts={**CPU, **changes})


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, OK, "CPU 版"),
        ({"cuda": "12.8"}, OK, "CUDA 12.8"),
        ({"precision": "fp32"}, NOTICE, "7.2 GB"),
        ({"threads": 1}, NOTICE, "太少"),
        ({"threads": 64}, NOTICE, "太多"),
    ],
)
def test_torch(monkeypatch, changes, status, word):
    monkeypatch.setattr(accelerator, "usable_cpus", lambda: 4)
    found = one(accelerator.torch(facts(**changes)))
    assert (found.status, word in found.found) == (status, True)


def test_a_containers_cpu_quota_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(accelerator, "CPU_QUOTA", tmp_path / "cpu.max")
    free = accelerator.usable_cpus()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert accelerator.usable_cpus() == free
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert accelerator.usable_cpus() == 1


@pytest.mark.parametrize(
    ("changes", "seen", "status", "word"),
    [
        ({}, accelerator.Driver(), NOTICE, "没有 NVIDIA 显卡"),
        ({}, accelerator.Driver(error="nvidia-smi：Driver/library version mismatch"), NOTICE, "mismatch"),
        ({}, RTX, NOTICE, "CPU 版"),
        ({"cuda": "12.8", "gpu_error": "RuntimeError: driver is too old"}, RTX, PROBLEM, "too old"),
        ({"cuda": "12.8", "gpus": [CARD]}, RTX, OK, "驱动 550.54"),
        ({"cuda": "12.8", "gpus": [CARD]}, accelerator.Driver(), OK, "有 bf16"),
        ({"cuda": "12.8", "gpus": [{**CARD, "bf16": False}]}, RTX, OK, "没有 bf16"),
        ({"cuda": "12.8", "gpus": [{**CARD, "free": 1e9}]}, RTX, NOTICE, "空闲 1.0 GB"),
        ({"cuda": "12.8", "gpus": [{**CARD, "error": "no kernel image"}]}, RTX, PROBLEM, "no kernel image"),
    ],
)
def test_gpu(changes, seen, status, word):
    found = one(accelerator.gpu(facts(**changes), seen))
    assert (found.status, word in found.found) == (status, True), found


def test_a_hidden_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "遮住" in one(accelerator.gpu(facts(cuda="12.8"), RTX)).found


def test_nvidia_smi(monkeypatch, tmp_path):
    def smi(script: str) -> accelerator.Driver:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return accelerator.driver()

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert smi("echo 'RTX 4090, 550.54'").cards == (("RTX 4090", "550.54"),)
    assert "mismatch" in smi("echo 'Driver/library version mismatch'; exit 18").error
    assert smi("exit 9").error == "nvidia-smi：退出代码 9"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert accelerator.driver() == accelerator.Driver()


# ── network ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def server(status: int = 200, seconds: float = 0.0):
    """A real HTTP server; yields its address and the headers it was sent."""
    headers = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            headers.append(str(self.headers))
            time.sleep(seconds)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads, running.block_on_close = True, False
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", headers
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture
def only_local(monkeypatch):
    """The three sources are these addresses; nothing outside this machine is asked."""

    def only_local(hub: str, mirror: str, modelscope: str) -> None:
        monkeypatch.setattr(network, "HUB", hub)
        monkeypatch.setattr(network, "MIRROR", mirror)
        monkeypatch.setattr(network, "MODELSCOPE", modelscope)

    return only_local


@pytest.fixture
def closed():
    """An address where nobody listens."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_sources_that_answer(only_local):
    with server() as (up, headers):
        only_local(up, f"{up}/mirror", f"{up}/scope")
        found = list(network.reachable(network.Reach().answers()))
    assert [finding.status for finding in found] == [OK, OK, OK]
    assert len(headers) == 3


def test_sources_that_fail_each_in_its_own_way(only_local, closed, monkeypatch):
    monkeypatch.setattr(network, "REQUEST_SECONDS", 0.5)
    with server(status=500) as (broken, _), server(seconds=3) as (slow, _):
        only_local(broken, slow, closed)
        found = list(network.reachable(network.Reach().answers()))
    assert [finding.status for finding in found] == [NOTICE] * 3
    for finding, word in zip(found, ("HTTP 500", "没有回答", "拒绝连接"), strict=True):
        assert word in finding.found
        assert "embedded" in finding.todo


def test_a_source_that_hangs_forever_does_not_hold_up_the_rest(only_local, closed, monkeypatch):
    """Each wait is short enough for its own timeout, all together they are not."""
    monkeypatch.setattr(network, "ALL_SECONDS", 1.0)
    with server() as (up, _), server(seconds=4) as (slow, _):
        only_local(up, slow, closed)
        start = time.monotonic()
        (_, good), (_, late), (_, refused) = network.Reach().answers()
    assert time.monotonic() - start < 3
    assert (good.error, "1 秒内没有回答" in late.error, refused.error) == ("", True, "拒绝连接")


def test_the_mirror_is_offered_where_the_hub_is_out_of_reach(only_local, closed):
    with server() as (up, _):
        only_local(closed, up, closed)
        hub, mirror, modelscope = network.reachable(network.Reach().answers())
    assert (hub.status, mirror.status, modelscope.status) == (NOTICE, OK, NOTICE)
    assert f"HF_ENDPOINT={up}" in hub.todo
    assert "hf-mirror 连得上" in modelscope.todo


def test_hf_endpoint_is_asked_in_the_hubs_place_without_its_password(only_local, closed, monkeypatch):
    with server(status=404) as (up, headers):
        only_local(closed, closed, closed)
        monkeypatch.setenv("HF_ENDPOINT", up.replace("//", "//me:hunter22@") + "/")
        found = next(iter(network.reachable(network.Reach().answers())))
    assert found.name == "网络（HF_ENDPOINT）"
    assert "HTTP 404" in found.found
    assert "hunter22" not in str(found) + str(headers)
    assert "uthorization" not in str(headers)


@pytest.mark.parametrize("address", ["huggingface.co", "file:///etc/passwd", "ftp://x", "//x"])
def test_an_hf_endpoint_that_is_no_address(monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "http://" in network.ask(network.sources()[0]).error
    assert one(network.settings(os.environ)).status == PROBLEM


@pytest.mark.parametrize("address", ["http://[bad", "http://host:port", "http://a b"])
def test_odd_addresses_are_answers_not_exceptions(address):
    assert network.ask(network.Source("x", address, "/")).error


def test_something_that_does_not_speak_http():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: listener.accept()[0].sendall(b"SSH-2.0\r\n"), daemon=True).start()
    port = listener.getsockname()[1]
    assert "不是 HTTP" in network.ask(network.Source("x", f"http://127.0.0.1:{port}", "/")).error
    listener.close()


def test_network_settings():
    assert one(network.settings({})).status == OK
    found = one(network.settings({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "0"}))
    assert (found.status, found.todo.split("。")[0]) == (NOTICE, "要下载模型或数据：unset HF_HUB_OFFLINE")
    found = one(network.settings({"https_proxy": "http://me:hunter22@proxy", "HF_TOKEN": "hf_abcdefgh"}))
    assert "HTTPS_PROXY 已设" in found.found
    assert "HF_TOKEN 已设" in found.found
    assert not {"hunter22", "hf_abcdefgh"} & set(found.found.split())


def test_wandb(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "没有登录" in one(network.wandb()).found
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789abcdef\n")
    found = one(network.wandb())
    assert "已登录" in found.found
    assert "0123456789abcdef" not in str(found)


# ── cache ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def sealed_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "config.json").write_text("{}")
    seal_model(folder, {"requested": "embedded"})
    return folder


@pytest.fixture
def model(tmp_path) -> Path:
    """A whole model in the cache, in a folder whose name needs quotes."""
    return sealed_model(tmp_path / "cache" / "models" / "my model")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda f: flip(f / "model.safetensors"), "SHA-256 不符"),
        (lambda f: (f / "model.safetensors").write_bytes(bytes(999)), "应为 1000 字节，实际 999"),
        (lambda f: (f / "model.safetensors").unlink(), "缺 model.safetensors"),
        (lambda f: (f / "zhsenti_model.json").unlink(), "没有标记"),
        (lambda f: (f / "zhsenti_model.json").write_text("{"), "读不了"),
        (lambda f: (f / "zhsenti_model.json").write_text("[1]"), "读不了"),
        (lambda f: (f / "zhsenti_model.json").write_text('{"files": {"a": 1}}'), "读不了"),
        (lambda f: (f / "zhsenti_model.json").write_bytes(b"\xff"), "读不了"),
    ],
)
def test_a_damaged_model(model, harm, word):
    assert one(cache.models()).status == OK
    harm(model)
    found = one(cache.models())
    assert (found.status, word in found.found) == (PROBLEM, True), found
    assert f"rm -r '{model}'" in found.todo


def test_left_over_folders_and_their_size(tmp_path):
    models = tmp_path / "cache" / "models"
    assert "还没有" in one(cache.models()).found
    for name in (".parts-embedded", ".embedded.0123abcd"):
        (models / name).mkdir(parents=True)
        (models / name / "part").write_bytes(bytes(3_000_000))
    lock = FileLock(models / ".embedded.lock")
    with lock:
        assert [finding.status for finding in cache.models()] == [OK, OK]
    staging, parts = cache.models()
    assert (staging.status, parts.status) == (NOTICE, NOTICE)
    assert staging.todo == f"rm -r {models / '.embedded.0123abcd'}"
    assert "接着取" in parts.todo
    assert "3.0 MB" in staging.found
    assert "3.0 MB" in parts.found


def test_cached_datasets(tmp_path, monkeypatch):
    assert "还没有" in one(cache.datasets()).found
    folder = tmp_path / "cache" / "datasets" / "ChnSentiCorp"
    folder.mkdir(parents=True)
    small = replace(DATASETS.load("ChnSentiCorp"), rows={"train": 3, "dev": 1})
    monkeypatch.setitem(DATASETS, "ChnSentiCorp", small)
    row = json.dumps({"text": "好", "label": 1}) + "\n"
    (folder / "train.jsonl").write_text(row * 3)
    (folder / "dev.jsonl").write_text(row)
    assert one(cache.datasets()).found == "dev 1、train 3 行"
    (folder / "train.jsonl").write_text(row * 2)
    found = one(cache.datasets())
    assert (found.status, "行数不对" in found.found) == (PROBLEM, True)
    assert f"rm -r {folder}" in found.todo
    (folder / "train.jsonl").write_text(row * 2 + row[:8])
    assert "train.jsonl 读不了" in one(cache.datasets()).found
    (folder.parent / ".ChnSentiCorp.0123abcd").mkdir()
    assert [finding.status for finding in cache.datasets()] == [NOTICE, PROBLEM]


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────


def fails():
    yield Finding("先", OK, "好")
    raise RuntimeError("https://me:hunter22@host/ 坏了\nTraceback")


def test_a_check_that_raises_is_a_line_and_the_next_ones_run():
    listed = [("坏", fails), ("缺", lambda: __import__("no_such_package")), ("后", lambda: [Finding("后", OK, "好")])]
    first, bad, missing, last = command.run(listed)
    assert (first.status, last.status) == (OK, OK)
    assert (bad.name, bad.status, bad.found) == ("坏", PROBLEM, "没法查：RuntimeError: https://…@host/ 坏了")
    assert bad.todo
    assert (missing.status, "no_such_package" in missing.found) == (PROBLEM, True)


def test_failures_in_the_background_are_raised_where_they_are_asked_for():
    (found,) = guarded("x", lambda: later(lambda: 1 / 0).result(timeout=5))
    assert found.found.startswith("没法查：ZeroDivisionError")


def test_no_secret_and_no_control_character_is_shown(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("https_proxy", "http://me:hunter22@proxy:3128")
    shown = safe("key 0123456789abcdef via http://me:hunter22@proxy:3128 and https://a:b/c@d/e \x1b[31m\n")
    assert not any(part in shown for part in ("0123456789abcdef", "hunter22", "\x1b", "\n"))
    monkeypatch.setenv("KEYBOARD", "us")
    assert safe("use this") == "use this"


@pytest.mark.parametrize(("status", "code"), [(OK, 0), (NOTICE, 0), (SKIPPED, 0), (PROBLEM, 1)])
def test_exit_codes_lines_and_json(monkeypatch, capsys, status, code):
    monkeypatch.setattr(command, "checks", lambda *_: [("x", lambda: [Finding("内存", status, "4 GB", "这样办")])])
    assert command.main([]) == code
    shown = capsys.readouterr().out
    assert command.MARKS[status] in shown
    assert "→ 这样办" in shown
    assert command.main(["--json"]) == code
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"checks": [{"name": "内存", "status": status, "found": "4 GB", "todo": "这样办"}]}


def test_output_does_not_need_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(command, "checks", lambda *_: [("x", lambda: [Finding("内存", OK, "4 GB")])])
    assert command.main([]) == 0
    assert "✓ 正常    内存：4 GB" in capsys.readouterr().out


@given(st.text(alphabet="abc/-. 中文，。（）“”：é\t", max_size=200), st.integers(min_value=8, max_value=80))
def test_wrapping_keeps_the_text_and_the_width(text, width):
    lines = command.wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(command.cells(line) <= width and line.strip() for line in lines)


def test_wrapping_breaks_at_good_places():
    assert command.wrap("内存不够，要 4.2 GB（估算）", 10) == ["内存不够，", "要 4.2 GB", "（估算）"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The real command, whole, in a process of its own: offline, with secrets around and a damaged model."""
    folder = tmp_path_factory.mktemp("whole")
    flip(sealed_model(folder / "models" / "embedded") / "model.safetensors")
    secrets = {"WANDB_API_KEY": "0123456789abcdef", "HF_TOKEN": "hf_qwertyuiop"}
    secrets |= {"HTTPS_PROXY": "http://me:hunter22@127.0.0.1:9", "HF_ENDPOINT": "https://me:pa/ss@127.0.0.1:9"}
    env = {**os.environ, **secrets, "ZHSENTI_CACHE": str(folder), "COLUMNS": "80", "WANDB_MODE": "online"}

    def whole(*words: str, **more: str) -> subprocess.CompletedProcess:
        command_line = [sys.executable, "-m", "zhsenti", "doctor", *words]
        done = subprocess.run(
            command_line, cwd=ROOT, env={**env, **more}, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode in (0, 1), done.stderr
        output = done.stdout + done.stderr
        assert "Traceback" not in output
        assert not [secret for secret in ("0123456789abcdef", "qwertyuiop", "hunter22", "pa/ss") if secret in output]
        return done

    return whole


def test_the_whole_command(whole):
    done = whole()
    assert done.returncode == 1
    assert all(command.cells(line) <= 80 for line in done.stdout.splitlines())
    assert "✗ 有问题  缓存（embedded）" in done.stdout
    assert "SHA-256 不符" in done.stdout
    assert "W&B：已登录" in done.stdout
    assert "127.0.0.1:9" in done.stdout
    assert "没法查" not in done.stdout


def test_the_whole_command_in_json_on_an_ascii_console(whole):
    done = whole("--json", "--offline", PYTHONIOENCODING="ascii")
    checks = json.loads(done.stdout)["checks"]
    assert {frozenset(entry) for entry in checks} == {frozenset({"name", "status", "found", "todo"})}
    assert [entry["status"] for entry in checks if entry["name"].startswith("网络（")] == [SKIPPED] * 3
    assert [entry["status"] for entry in checks if entry["name"] == "编码"] == [NOTICE]
    assert all(entry["todo"] for entry in checks if entry["status"] in (NOTICE, PROBLEM))
    assert {"Python", "内存", "torch", "显卡", "中文字体"} <= {entry["name"] for entry in checks}


def test_nothing_beyond_the_standard_library_is_imported_at_the_start():
    code = f"import sys; sys.path.append({str(ROOT)!r}); import zhsenti.doctor.command"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
