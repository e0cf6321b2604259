"""The Ray engine on a cluster of this machine: what it gives equals the local engine, also when an actor is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.fakes import KeywordPredictor
from zhsenti.core.errors import ConfigError, ModelError
from zhsenti.prediction.batch import ray_engine, records, shards
from zhsenti.prediction.batch.shards import Job, open_shards

ray = pytest.importorskip("ray")
LABELS = ("负面", "正面")


@pytest.fixture(scope="module")
def cluster():
    """Two actors' worth of cores whatever the machine; workers find ``tests`` by the path they inherit."""
    here = Path(__file__).resolve()
    root = os.pathsep.join(map(str, (here.parents[2], here.parent)))  # this module's own classes travel by name
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, before]))
    ray_engine._import_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture
def job(tmp_path):
    files = []
    for number, rows in enumerate((5000, 700)):
        path = tmp_path / f"part{number}.csv"
        texts = [f"第{n}次住很好" if n % 3 else "" if n % 2 else f"第{n}次太吵" for n in range(rows)]
        path.write_text("\n".join(["id,text", *(f"{n},{text}" for n, text in enumerate(texts)), ""]), encoding="utf-8")
        files.append(path)
    return Job(tuple(files), "text", None, None, LABELS, {"adapter": "fake"})


class Dying(KeywordPredictor):
    """Kills its process in the middle of its second window, once in all: ``mark`` says that it has."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def predict_batch(self, texts, aspects=None):
        if len(self.calls) == 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict_batch(texts, aspects)


def _run(job: Job, output: Path, engine) -> list[list[records.Result]]:
    with open_shards(job, output) as work:
        for line in engine(job, work):
            work.append(line)
        return [list(work.results(file)) for file in range(len(job.files))]


def _local(job: Job, tmp_path: Path) -> list[list[records.Result]]:
    return _run(job, tmp_path / "local.csv", lambda *work: shards.score(*work, KeywordPredictor))


def test_ray_equals_the_local_engine_also_when_an_actor_is_killed(job, tmp_path, cluster):
    expected = _local(job, tmp_path)
    assert [len(file) for file in expected] == [5000, 700]
    assert any(result.error for result in expected[0]), "no bad row, nothing shown"
    mark = tmp_path / "died"
    for name, load in (("whole", KeywordPredictor), ("killed", lambda: Dying(mark))):
        found = _run(job, tmp_path / f"{name}.csv", lambda *work, load=load: ray_engine.score(*work, load, None, 2))
        assert found == expected, name
    assert mark.exists(), "nobody was killed"


def test_ray_goes_on_where_the_local_engine_stopped(job, tmp_path, cluster):
    expected = _local(job, tmp_path)
    output = tmp_path / "out.csv"
    with open_shards(job, output) as work:
        window = next(work.pending())
        results = records.score_window(KeywordPredictor(), window.questions)
        work.append(shards.write_shard(work.folder, LABELS, window.file, window.start, results))
    with open_shards(job, output) as work:
        assert work.rows == 512
        lines = list(ray_engine.score(job, work, KeywordPredictor, None, 2))
        assert sum(line["rows"] for line in lines) == 5700 - 512
        for line in lines:
            work.append(line)
        assert [list(work.results(file)) for file in (0, 1)] == expected


def test_what_concerns_every_row_is_one_message(job, tmp_path, cluster):
    def load():
        raise ModelError("没有基座", found="空文件夹", todo="换一个。")

    with pytest.raises(ModelError, match="没有基座") as caught:
        _run(job, tmp_path / "out.csv", lambda *work: ray_engine.score(*work, load, None, 1))
    assert (caught.value.found, caught.value.todo) == ("空文件夹", "换一个。")

    def full():
        raise OSError(28, "No space left on device", "/x")

    with pytest.raises(OSError, match="No space") as disk:
        _run(job, tmp_path / "out.csv", lambda *work: ray_engine.score(*work, full, None, 1))
    assert disk.value.errno == 28


def test_no_cluster_there_is_one_message(job, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody at 127.0.0.1:1")))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="连不上 Ray 集群"):
        _run(job, tmp_path / "out.csv", lambda *work: ray_engine.score(*work, KeywordPredictor, "127.0.0.1:1", 1))


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
    assert ray_engine._share([{"Alive": True, "Resources": node} for node in nodes], wanted) == expected
