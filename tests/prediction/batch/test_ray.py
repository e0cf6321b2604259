"""The Ray engine on a cluster of this machine: what it gives equals the local engine, also when an actor is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.fakes import KeywordPredictor
from tests.paths import ROOT
from tests.prediction.batch.jobs import Stopping, run
from zhsenti.core.errors import ConfigError, ModelError
from zhsenti.prediction.batch import ray_engine
from zhsenti.prediction.batch.plan import Job
from zhsenti.prediction.batch.shards import open_shards

ray = pytest.importorskip("ray")
LABELS = ("负面", "正面")


@pytest.fixture(scope="module")
def cluster():
    """Two actors' worth of cores whatever the machine; workers find ``tests`` by the path they inherit."""
    root = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))  # this module's own classes travel by name
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, before]))
    ray_engine._import_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture
def inputs(tmp_path):
    """A folder of two tables, 5,700 rows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, rows in enumerate((5000, 700)):
        texts = [f"第{n}次住很好" if n % 3 else "" if n % 2 else f"第{n}次太吵" for n in range(rows)]
        lines = ["id,text", *(f"{n},{text}" for n, text in enumerate(texts)), ""]
        (folder / f"part{number}.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def job(inputs):
    return Job(tuple(sorted(inputs.iterdir())), "text", None, None, LABELS, {"adapter": "fake"})


class Dying(KeywordPredictor):
    """Kills its process in the middle of its second window, once in all: ``mark`` says that it has."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def predict_batch(self, texts, aspects=None, *, progress=None):
        if len(self.calls) == 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict_batch(texts, aspects, progress=progress)


def test_ray_equals_the_local_engine_also_when_an_actor_is_killed(inputs, tmp_path, cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers stand elsewhere
    run(inputs.name, "local.csv")
    expected = (tmp_path / "local.csv").read_bytes()
    assert expected.count(b"\n") == 5701
    assert "文本是空的".encode() in expected, "no bad row, nothing shown"
    mark = tmp_path / "died"
    for name, load in (("whole", KeywordPredictor), ("killed", lambda: Dying(mark))):
        run(inputs.name, f"{name}.csv", load, engine="ray", num_actors=2)
        assert (tmp_path / f"{name}.csv").read_bytes() == expected, name
    assert mark.exists(), "nobody was killed"


def test_ray_goes_on_where_the_local_engine_stopped(inputs, tmp_path, cluster, monkeypatch):
    run(inputs, tmp_path / "local.csv")
    with pytest.raises(OSError, match="No space"):
        run(inputs, tmp_path / "out.csv", Stopping)
    scored, real = [], ray_engine.score

    def watched(*args):
        for shard in real(*args):
            scored.append(shard.rows)
            yield shard

    monkeypatch.setattr(ray_engine, "score", watched)
    run(inputs, tmp_path / "out.csv", engine="ray", num_actors=2)
    assert sum(scored) == 5700 - 512
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def _score(job: Job, output: Path, load, address=None) -> None:
    with open_shards(job, output) as work:
        for shard in ray_engine.score(work, load, address, 1):
            work.append(shard)


def test_what_concerns_every_row_is_one_message(job, tmp_path, cluster):
    def load():
        raise ModelError("没有基座", found="空文件夹", todo="换一个。")

    with pytest.raises(ModelError, match="没有基座") as caught:
        _score(job, tmp_path / "out.csv", load)
    assert (caught.value.found, caught.value.todo) == ("空文件夹", "换一个。")

    def full():
        raise OSError(28, "No space left on device", "/x")

    with pytest.raises(OSError, match="No space") as disk:
        _score(job, tmp_path / "out.csv", full)
    assert disk.value.errno == 28


def test_no_cluster_there_is_one_message(job, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody at 127.0.0.1:1")))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="连不上 Ray 集群"):
        _score(job, tmp_path / "out.csv", KeywordPredictor, "127.0.0.1:1")


@pytest.mark.parametrize(
    ("nodes", "wanted", "expected"),
    [
        ([{"CPU": 2}], 0, (1, {"num_cpus": 2.0})),
        ([{"CPU": 2}], 2, (2, {"num_cpus": 1.0})),
        ([{"CPU": 8}, {"CPU": 4}, {"memory": 1}], 0, (2, {"num_cpus": 4.0})),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4}], 0, (8, {"num_gpus": 1.0, "num_cpus": 1.0})),
        ([{"CPU": 16, "GPU": 2}], 4, (4, {"num_gpus": 0.5, "num_cpus": 1.0})),
        ([{"CPU": 16, "GPU": 2}], 3, (3, {"num_gpus": 0.5, "num_cpus": 1.0})),
        ([{"CPU": 4}, {"CPU": 4}, {"CPU": 4}], 4, (4, {"num_cpus": 2.0})),
    ],
)
def test_what_an_actor_asks_for(nodes, wanted, expected):
    assert ray_engine._resources([{"Alive": True, "Resources": node} for node in nodes], wanted) == expected
