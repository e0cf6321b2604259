"""SIGKILL anywhere, then resume: the weights are those of the run that was left alone, to the bit."""

from __future__ import annotations

import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.training.doomed import RESUME, check_resumes, outcome, run, start, wait_for
from zhsenti.training.checkpoints import checkpoints, step_of

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def short(command):
    """argv of a run of 4 updates with checkpoints at 2 and 4, of which one is kept; dropout shows a lost RNG."""
    return lambda output, *more: command(output, "--max_train_samples", "64", *more)


@pytest.fixture(scope="module")
def whole(short, tmp_path_factory):
    """The run that nobody disturbs, and the file operations it took."""
    folder = tmp_path_factory.mktemp("whole")
    log = folder / "operations"
    done = run(short(folder / "run"), folder / "log", count_in=str(log))
    assert done.code == 0, done.said
    return folder / "run", log.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("half", [0, 1])
def test_kill_at_every_file_operation(short, whole, tmp_path, half):
    """Two halves, so that a failure is found sooner; two runs at a time on two cores."""
    folder, operations = whole
    assert len(operations) > 60, operations
    assert {line.split()[0] for line in operations} >= {"open", "os.rename", "os.mkdir", "fsync", "before", "half"}

    def kill_and_resume(number: int) -> None:
        output, log = tmp_path / str(number), tmp_path / f"{number}.log"
        argv = short(output)
        done = run(argv, log, kill_at=number)
        assert done.code == -signal.SIGKILL, f"operation {number} ({operations[number - 1]}) never came: {done.said}"
        try:
            check_resumes(output, log, argv, folder)
        except AssertionError as error:
            raise AssertionError(f"killed at operation {number}: {operations[number - 1]}") from error
        shutil.rmtree(output)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill_and_resume, range(1 + half, len(operations) + 1, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_kill_again_and_again_at_random_steps(command, tmp_path, seed):
    """A run of 12 updates that is killed in one of its next steps until it gets through."""
    longer = ["--num_epochs", "2"]
    assert run(command(tmp_path / "whole", *longer), tmp_path / "whole.log").code == 0
    chance, output, log = random.Random(seed), tmp_path / "run", tmp_path / "log"
    argv, step, killed_at = command(output, *longer), 0, []
    while step < 12:
        step = min(step + chance.randint(1, 4), 12)
        process = start([*argv, *RESUME], log, slow_steps=0.1)
        wait_for(log, f"训练 {step}/12 步")
        time.sleep(chance.uniform(0.0, 0.2))
        process.kill()
        if outcome(process, log).code == -signal.SIGKILL:
            killed_at.append(step)
        last = next(iter(checkpoints(output)), None)
        step = step_of(last) if last and step < 12 else step
    assert len(killed_at) >= 3, killed_at
    check_resumes(output, log, argv, tmp_path / "whole")


def test_a_killed_run_gives_its_folder_free(command, tmp_path):
    output, log = tmp_path / "run", tmp_path / "log"
    first = start(command(output), log, slow_steps=5.0)
    wait_for(log, "训练 1/")
    second = run(command(output), tmp_path / "second")
    assert second.code == 2
    assert "另一个训练正在写" in second.said
    assert "Traceback" not in second.said
    assert not list(output.glob("previous-*")), "the second run touched the first one's files"
    first.kill()
    outcome(first, log)
    third = run(command(output), tmp_path / "third")
    assert third.code == 0, third.said
