"""The kill tests on the real 0.5B model in float32: minutes, so ``make nightly``."""

from __future__ import annotations

import random
import signal

import pytest

from tests.training.doomed import RESUME, check_resumes, outcome, run, start, wait_for

pytestmark = [pytest.mark.real, pytest.mark.nightly]
THREADS = {"threads": 2}


@pytest.fixture(scope="module")
def real(real_model, command):
    """argv of 6 updates of 4 reviews with checkpoints at 2, 4 and 6."""
    size = ["--max_train_samples", "24", "--batch_size", "4", "--gradient_accumulation_steps", "1"]
    more = [*size, "--learning_rate", "1e-4", "--lora_dropout", "0", "--max_length", "48"]
    return lambda output, *words: command(output, "--model_name", str(real_model), *more, *words)


@pytest.fixture(scope="module")
def whole(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = run(real(folder / "run"), folder / "log", count_in=str(folder / "operations"), **THREADS)
    assert done.code == 0, done.said
    return folder / "run", (folder / "operations").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("seed", range(6))
def test_kill_inside_a_save(real, whole, tmp_path, seed):
    """Six file operations in six equal parts of the run's life, the adapter folder's included."""
    folder, operations = whole
    part = len(operations) // 6
    number = random.Random(seed).randint(seed * part + 1, (seed + 1) * part)
    output, log = tmp_path / "run", tmp_path / "log"
    done = run(real(output), log, kill_at=number, **THREADS)
    assert done.code == -signal.SIGKILL, (operations[number - 1], done.said)
    check_resumes(output, log, real(output), folder, **THREADS)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_kill_inside_a_step(real, whole, tmp_path, step):
    output, log = tmp_path / "run", tmp_path / "log"
    process = start([*real(output), *RESUME], log, **THREADS)
    wait_for(log, f"训练 {step}/6 步", timeout=300)
    process.kill()
    assert outcome(process, log).code == -signal.SIGKILL
    check_resumes(output, log, real(output), whole[0], **THREADS)
