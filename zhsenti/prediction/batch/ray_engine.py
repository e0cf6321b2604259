"""``--engine ray``: a job's shards scored by a pool of actors, on this machine or a cluster.

Ray Data (Moritz et al. 2018, arXiv:1712.05889, and its streaming executor) carries the work: a task an input cuts
windows, actors with a model each score them and write shards, and only manifest lines come back. A shard that was being
scored by an actor or node that died is scored again by another one; windows and shards are the local engine's, so
either can go on with what the other left.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zhsenti.core import errors
from zhsenti.core.errors import ConfigError, ZhsentiError, first_line
from zhsenti.prediction.batch.plan import Json
from zhsenti.prediction.batch.shard_files import Shard, write_shard
from zhsenti.prediction.batch.shards import Shards
from zhsenti.prediction.batch.windows import BatchPredictor, Question, Window, score_window

if TYPE_CHECKING:
    from types import ModuleType

PIECE_ROWS = 2048  # a shard has about this many rows: few enough to keep all actors busy and to lose little
Block = dict[str, Any]  # one row of Ray's: columns of one value each, in numpy arrays where they come in


def score(
    shards: Shards, load: Callable[[], BatchPredictor], address: str | None = None, num_actors: int = 0
) -> Iterator[Shard]:
    """Score what no shard holds yet. All nodes must see inputs, output and the model under the same paths.

    Args:
        shards: The job and its finished shards.
        load: Makes a predictor; each actor calls it once.
        address: Of a running cluster; None to start one on this machine.
        num_actors: How many score at once; 0 for one a GPU, or one a node where there are no GPUs.

    Yields:
        Shards that are written, in the order in which they are done. They count once ``shards`` has them.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
        ZhsentiError: What an actor met: the first one's.
        OSError: The same.
    """
    ray = _import_ray()
    with _cluster(ray, address):
        actors, resources = _resources(ray.nodes(), num_actors)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # a piece is a block: an actor that is free takes the next one
        files = len(shards.job.files)
        inputs = ray.data.from_items([{"file": file} for file in range(files)], override_num_blocks=files)
        # Reading waits most of the time, and must not wait for the cores that actors hold.
        pieces = inputs.map_batches(
            _Read(shards), batch_size=1, batch_format="numpy", num_cpus=0, concurrency=max(2, actors)
        )
        done = pieces.map_batches(
            _Score,
            fn_constructor_args=(shards, load),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors),
            **resources,
        )
        for row in done.iter_rows():
            yield _shard(json.loads(row["answer"]))


class _Read:
    """An input's windows that no shard holds, as pieces of about PIECE_ROWS consecutive rows."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def __call__(self, batch: Block) -> Iterator[Block]:
        (file,) = (int(number) for number in batch["file"])
        piece: list[Window] = []
        rows = 0
        try:
            for window in self.shards.pending(file):
                if piece and (rows >= PIECE_ROWS or window.start != piece[0].start + rows):
                    yield _block(file, piece[0].start, _cells(piece))
                    piece, rows = [], 0
                piece.append(window)
                rows += len(window.questions)
        except (ZhsentiError, OSError) as error:
            yield _block(file, -1, _fault(error))
            return
        if piece:
            yield _block(file, piece[0].start, _cells(piece))


def _block(file: int, start: int, content: object) -> Block:
    """A piece, or with ``start`` -1 the fault that ended reading."""
    return {"file": [file], "start": [start], "content": [json.dumps(content)]}


def _cells(piece: list[Window]) -> list[list[list[str | None]]]:
    return [[[one.text, one.aspect, one.error] for one in window.questions] for window in piece]


class _Score:
    """An actor: one model, loaded when its first piece comes, so that a fault of its loading can be told."""

    def __init__(self, shards: Shards, load: Callable[[], BatchPredictor]) -> None:
        self.shards, self.load = shards, load
        self.predictor: BatchPredictor | None = None

    def __call__(self, batch: Block) -> Block:
        ((file, start, text),) = zip(batch["file"], batch["start"], batch["content"], strict=True)
        content = json.loads(str(text))
        if start < 0:
            return {"answer": [json.dumps(content)]}
        try:
            self.predictor = self.predictor or self.load()
            results = []
            for window in content:
                results += score_window(self.predictor, [Question(*cells) for cells in window])
            labels = len(self.shards.job.labels)
            answer = dataclasses.asdict(write_shard(self.shards.folder, labels, int(file), int(start), results))
        except (ZhsentiError, OSError) as error:
            answer = _fault(error)
        return {"answer": [json.dumps(answer)]}


# ── faults cross the cluster as data: a message, not a traceback ──────────────────────────────────────────────────


def _fault(error: ZhsentiError | OSError) -> Json:
    if isinstance(error, OSError):
        return {"fault": "OSError", "args": [error.errno or 0, error.strerror or str(error), error.filename]}
    parts = {"expected": error.expected, "found": error.found, "todo": error.todo}
    return {"fault": type(error).__name__, "problem": error.problem, "parts": parts}


def _shard(answer: Json) -> Shard:
    """The shard that ``answer`` tells of.

    Raises:
        ZhsentiError, OSError: What a fault stands for.
    """
    if "fault" not in answer:
        return Shard(**answer)
    if answer["fault"] == "OSError":
        raise OSError(*answer["args"])
    raise getattr(errors, answer["fault"], ZhsentiError)(answer["problem"], **answer["parts"])


# ── the cluster ───────────────────────────────────────────────────────────────────────────────────────────────────


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError("没有装 Ray", found=first_line(error), todo='pip install "zhsenti[ray]"') from error
    return ray


@contextmanager
def _cluster(ray: ModuleType, address: str | None) -> Iterator[None]:
    """Connected to ``address``, or to a cluster of this machine alone that ends with the block."""
    import logging

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True}
    mine = not ray.is_initialized()
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(
            f"连不上 Ray 集群 {address}" if address else "在本机起不了 Ray",
            found=first_line(error),
            todo="在集群里运行，或检查 --ray_address；ray status 能看到集群就对了。",
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _resources(nodes: list[dict[str, Any]], wanted: int) -> tuple[int, dict[str, float]]:
    """How many actors, and what each asks for: a GPU where there are any, else its share of a node's cores.

    Ray gives torch as many threads as an actor has cores.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    if gpus:
        return wanted or gpus, {"num_gpus": 1 / math.ceil((wanted or gpus) / gpus), "num_cpus": 1.0}
    cores = [int(node.get("CPU", 0)) for node in alive if node.get("CPU", 0) >= 1] or [1]
    actors = wanted or len(cores)
    # An actor lives on one node: as many cores each as still let all of them find a place.
    fits = (each for each in range(min(cores), 1, -1) if sum(have // each for have in cores) >= actors)
    return actors, {"num_cpus": float(next(fits, 1))}
