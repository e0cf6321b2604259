"""Clean-up takes what zhsenti wrote under names that are its own, and nothing else; work folders are this user's."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.prediction.batch.jobs import fail_after, score, write_reviews
from zhsenti.core.errors import ConfigError
from zhsenti.core.files import left_over, recover, temporary_name
from zhsenti.prediction.batch import shards
from zhsenti.training.earlier import sweep

pytestmark = pytest.mark.hostile


def test_recovery_leaves_a_users_backups_alone(tmp_path):
    """``.lora_adapter.backup-best`` and ``.run1.keep`` beside run[1] were removed."""
    for name in (".lora_adapter.backup-best", ".lora_adapter.0123abcd", ".lora_adapter.old", ".run1.keep"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").touch()
    recover(tmp_path / "lora_adapter")
    recover(tmp_path / "run[1]")
    assert len(list(tmp_path.rglob("weights"))) == 4


@pytest.mark.parametrize("name", ["lora_adapter", "run[1]", "a*b", "评估"])
def test_recovery_takes_what_a_kill_left(name, tmp_path):
    folder = tmp_path / name
    left = temporary_name(folder)
    left.mkdir()
    (left / "half").touch()
    assert len(left_over(folder)) == 1
    recover(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_run_sweeps_its_own_unfinished_checkpoints_alone(tmp_path):
    for name in (".unfinished-novel", ".discarded-notes", ".unfinished-checkpoint-7", ".discarded-checkpoint-5"):
        (tmp_path / name).mkdir()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".discarded-notes", ".unfinished-novel"]


def test_an_outputs_clean_up_leaves_a_users_files_alone(tmp_path):
    kept = [".out.csv.original", ".out.csv.0123abcd", ".out.csv.zhsenti-novel"]
    for name in kept:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    gone = temporary_name(tmp_path / "out.csv")
    gone.touch()
    score(write_reviews(tmp_path / "in.csv", 4), tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "in.csv", "out.csv"])


# ── the work folder of a batch job ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(os.name != "posix", reason="links, owners and modes are of POSIX")
def test_a_work_folder_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    target = tmp_path / "documents"
    target.mkdir()
    (target / "thesis.parquet").touch()
    (tmp_path / ".out.csv.parts").symlink_to(target)
    with pytest.raises(ConfigError, match="符号链接"):
        score(write_reviews(tmp_path / "in.csv", 4), tmp_path / "out.csv")
    assert [path.name for path in target.iterdir()] == ["thesis.parquet"]


@pytest.mark.skipif(os.name != "posix", reason="links, owners and modes are of POSIX")
def test_a_work_folder_that_others_can_write_to_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / ".out.csv.parts"
    folder.mkdir()
    folder.chmod(0o777)
    path = write_reviews(tmp_path / "in.csv", 4)
    with pytest.raises(ConfigError, match="别的用户也能写"):
        score(path, tmp_path / "out.csv")
    folder.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="别的用户的文件夹"):
        score(path, tmp_path / "out.csv")


@pytest.mark.skipif(os.name != "posix", reason="links, owners and modes are of POSIX")
def test_a_new_work_folder_is_its_users_alone(tmp_path, monkeypatch):
    fail_after(monkeypatch, shards, "score_window", 2)
    monkeypatch.setattr("zhsenti.prediction.batch.windows.WINDOW_ROWS", 4)
    with pytest.raises(OSError, match="No space"):
        score(write_reviews(tmp_path / "in.csv", 40), tmp_path / "out.csv")
    assert (tmp_path / ".out.csv.parts").stat().st_mode & 0o777 == 0o700


def test_a_line_of_the_manifest_that_names_no_shard_does_not_count(tmp_path, monkeypatch):
    """A line without keys was a traceback; a name with a way in it, or of another place, is none of a shard."""
    monkeypatch.setattr("zhsenti.prediction.batch.windows.WINDOW_ROWS", 4)
    path = write_reviews(tmp_path / "in.csv", 40)
    with monkeypatch.context() as full:
        fail_after(full, shards, "score_window", 3)
        with pytest.raises(OSError, match="No space"):
            score(path, tmp_path / "out.csv")
    folder = tmp_path / ".out.csv.parts"
    real = json.loads((folder / "manifest.jsonl").read_text().splitlines()[-1])
    (folder / "thesis.txt").touch()
    changes = [{"start": -4}, {"rows": "4"}, {"file": 10**30}, {"name": "../x"}, {"start": 20}, {"rows": True}]
    with (folder / "manifest.jsonl").open("a") as manifest:
        for line in [{"name": real["name"], "sha256": real["sha256"]}, *({**real, **change} for change in changes)]:
            manifest.write(json.dumps(line) + "\n")
    result = score(path, tmp_path / "out.csv")
    assert [row[1] for row in result.rows] == ["负面", "正面"] * 20
    assert [one.name for one in folder.iterdir()] == ["thesis.txt"]  # not ours: it stays, and its folder


def test_nothing_is_started_from_the_folder_one_is_in(tmp_path):
    """``python -m`` puts it first on the path: a ``queue.py`` that lies there would run."""
    from zhsenti.models import embedded
    from zhsenti.training import command

    started = []

    class Started(Exception):
        pass

    def start(words, **options):
        started.append((words, options))
        raise Started

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded.subprocess, "run", start)
        with pytest.raises(Started):
            embedded._fetch(embedded.EMBEDDED["embedded"], 1, "0" * 64, tmp_path)
        patch.setattr(command, "launch", lambda count, words, folder: started.append((["python", *words], {})) or 0)
        command.main(["--num_processes", "2", "--model_name", "x"])
    (fetch, options), (train, _) = started
    assert fetch[:4] == [sys.executable, "-P", "-m", "pip"]
    assert options["cwd"] == tmp_path
    assert train[:4] == ["python", "-P", "-m", "zhsenti"]
