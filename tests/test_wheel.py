"""The built wheel, installed where no checkout is in sight, does from an empty directory all that a checkout does."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.tiny_models import train_flags
from tests.waiting import until

DEPENDENCIES = Path(sysconfig.get_path("purelib"))
SECONDS = 300  # what takes longer hangs
pytestmark = pytest.mark.wheel

# Runs in every process of the new environment, before anything else. An event of reading, listing or starting that
# names the checkout (other than an environment that lies in it) is written down.
WATCH = f"""
import os, sys

CHECKOUT, DEPENDENCIES, TRACE = {str(ROOT)!r}, {str(DEPENDENCIES)!r}, os.environ["ZHSENTI_TEST_TRACE"]
READING = {{"open", "os.listdir", "os.scandir", "os.chdir"}}
STARTING = {{"os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"}}

EVENTS = READING | STARTING

def watch(event, arguments):
    if event in EVENTS and CHECKOUT in (text := str(arguments)) and CHECKOUT in text.replace(DEPENDENCIES, ""):
        trace = os.open(TRACE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(trace, f"{{event}} {{text}}\\n".encode())
        os.close(trace)

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """What ``make wheel`` leaves in dist/."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, ROOT / ".ci" / "build_wheel.py", folder], check=True, timeout=SECONDS)
    (path,) = folder.glob("zhsenti-*.whl")
    return path


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel and sees its dependencies; commands run in ``folder``, empty at first.

    Attributes:
        environment: The folder of the environment.
        folder: Where commands run.
        trace: Where ``WATCH`` writes what reached for the checkout.
    """

    environment: Path
    folder: Path
    trace: Path

    @property
    def variables(self) -> dict[str, str]:
        """Of a user who has nothing: an empty home, no cache, no PYTHONPATH."""
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        own = {"HOME": str(home), "ZHSENTI_CACHE": str(home / "cache"), "ZHSENTI_TEST_TRACE": str(self.trace)}
        settings = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "LANG": "C.UTF-8"}
        return {"PATH": f"{self.environment / 'bin'}:/usr/bin:/bin", **own, **settings}

    def start(self, *words: object) -> subprocess.Popen[str]:
        command = [str(self.environment / "bin" / "zhsenti"), *map(str, words)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=self.variables, text=True, **streams)

    def run(self, *words: object) -> tuple[str, str]:
        """What the command ``zhsenti …`` wrote to stdout and to stderr; it ended well and knew of no checkout."""
        return self.end_of(self.start(*words))

    def end_of(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        with process:
            try:
                out, err = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        said = out + err
        assert process.returncode == 0, said
        assert not self.trace.exists(), self.trace.read_text(encoding="utf-8")
        assert str(ROOT) not in said.replace(str(DEPENDENCIES), "")
        return out, err


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    folder = tmp_path_factory.mktemp("user")
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--disable-pip-version-check"]
    # From elsewhere: in the checkout pip would see its egg-info and take zhsenti for installed.
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [*pip, "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run(command, cwd=folder, env=elsewhere, check=True, timeout=SECONDS)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    # A path alone: .pth files in that folder, such as that of an installation in place, are not read.
    (packages / "dependencies.pth").write_text(f"{DEPENDENCIES}\n", encoding="utf-8")
    (packages / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    (folder / "empty").mkdir()
    installed = Installed(environment, folder / "empty", folder / "trace")
    code = "import zhsenti; print(zhsenti.__file__)"
    done = subprocess.run(
        [python, "-c", code], cwd=installed.folder, env=installed.variables, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(environment)
    return installed


@pytest.fixture(scope="module")
def small(tiny_model, review_csv) -> list[str]:
    """Flags that keep a training on the tiny model within seconds."""
    return train_flags(tiny_model, review_csv, "label_scoring")


@pytest.fixture(scope="module")
def adapter(installed, small) -> Path:
    """Trained by the installed command, with a configuration that came in the wheel."""
    out, err = installed.run("train", "--config", "laptop", *small)
    assert "laptop" in out + err
    folder = installed.folder / "experiments" / "label_scoring" / "lora_adapter"
    assert (folder / "adapter_model.safetensors").is_file()
    return folder


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel):
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "zhsenti").rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {name for name in names if ".dist-info/" not in name} == files
    needed = re.findall(r"^Requires-Dist: ([\w.-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    assert {"torch", "transformers", "peft", "fastapi"} <= set(needed)
    assert not {"ray", "openvino", "playwright", "pytest", "httpx"} & set(needed)


def test_the_same_sources_give_the_same_bytes(wheel, tmp_path):
    subprocess.run([sys.executable, ROOT / ".ci" / "build_wheel.py", tmp_path], check=True, timeout=SECONDS)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [wheel.read_bytes()]


def test_two_processes_train_too(installed, adapter, small):
    installed.run("train", *small, "--num_processes", 2, "--output_dir", "pair")
    assert (installed.folder / "pair" / "lora_adapter" / "adapter_model.safetensors").is_file()


def test_a_text_and_a_file_are_predicted(installed, adapter, review_csv):
    text = json.loads(installed.run("predict", "--text", "房间很好", "--json")[0])
    assert text["label"] in ("正面", "负面")
    installed.run("predict", "--input", review_csv, "--output", "labelled.jsonl")
    lines = (installed.folder / "labelled.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 120
    assert json.loads(lines[0])["error"] is None


def test_a_full_evaluation_with_the_challenge_set_becomes_a_report(installed, adapter):
    installed.run("evaluate", "--perturbation_samples", 8, "--explain_errors", 2)
    results = installed.folder / "evaluation" / "outputs"
    challenge = json.loads((results / "robustness_result.json").read_text(encoding="utf-8"))["challenge"]
    assert challenge["n"] > 500
    assert "</html>" in (results / "report.html").read_text(encoding="utf-8")


def test_the_service_answers_shows_its_page_and_ends(installed, adapter):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    def get(path: str, body: dict | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS) as answer:
            return answer.read()

    def is_ready() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            return bool(get("/readyz"))
        except OSError:  # nobody listens yet, or 503
            return False

    process = installed.start("serve", "--port", port)
    try:
        until(is_ready, SECONDS)
        answer = json.loads(get("/v1/predict", {"text": "房间很好"}))
        assert answer["results"][0]["label"] in ("正面", "负面")
        page = get("/").decode()
        assert "<title>" in page
        for script in re.findall(r'(?:src|href)="(/?[\w./-]+\.(?:js|css|svg))"', page):
            assert get("/" + script.lstrip("/"))
    finally:
        process.terminate()
    installed.end_of(process)


def test_the_adapter_is_exported(installed, adapter, review_csv):
    installed.run("export", "--format", "merged", "--dataset", review_csv, "--samples", 50, "--output", "merged")
    assert (installed.folder / "merged" / "config.json").is_file()


def test_the_data_and_the_machine_are_checked(installed, review_csv):
    installed.run("audit", review_csv)
    assert "</html>" in (installed.folder / "audit" / "audit.html").read_text(encoding="utf-8")
    assert json.loads(installed.run("doctor", "--offline", "--json")[0])
