"""One journal for shards, cached scores and the training log: whatever is torn off it, whole lines count."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths import ENV
from zhsenti.core import journal
from zhsenti.core.journal import Journal

RECORDS = [{"event": "开始", "n": 1}, {"event": "训练", "loss": 0.5}, {"event": "结束", "path": "a\nb\r"}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def full_disk(monkeypatch, room: int) -> None:
    """From now on the disk takes ``room`` bytes more, in as many writes as it likes."""
    left = [room]

    class Full(io.FileIO):
        def write(self, data) -> int:
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(memoryview(data)[: left[0]])
            left[0] -= written
            return written

    monkeypatch.setattr(Path, "open", lambda self, mode="r", **kwargs: Full(self, mode))


def test_what_is_written_is_read(path):
    Journal(path).append(*RECORDS[:2])
    Journal(path).append(RECORDS[2])
    assert Journal(path).read() == RECORDS
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("ascii", [False, True])
def test_bytes_are_those_of_earlier_versions(path, ascii):
    Journal(path, ascii=ascii).append(*RECORDS)
    assert path.read_bytes() == "".join(json.dumps(r, ensure_ascii=ascii) + "\n" for r in RECORDS).encode()


def test_no_file_is_an_empty_journal_and_no_folder_an_error(path):
    fresh = Journal(path)
    assert fresh.read() == []
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        Journal(path / "no" / "folder").append({})


def test_a_line_torn_at_any_byte_does_not_count_and_is_cut_away(path):
    Journal(path).append(*RECORDS)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        torn = Journal(path)
        kept = sum(end <= size for end in ends)
        assert torn.read() == RECORDS[:kept]
        assert path.read_bytes() == whole[:size], "reading changes nothing"
        torn.append({"event": "又来"})
        assert Journal(path).read() == [*RECORDS[:kept], {"event": "又来"}]


NOISE = [b"noise\n", b"[1]\n", b"null\n", b"\n", b"\0\0\0\0\n", b"\xff\xfe{}\n", b"[" * 100_000 + b"\n"]


@pytest.mark.parametrize("noise", NOISE, ids=range(len(NOISE)))
def test_nothing_counts_from_the_first_line_that_is_no_object(path, noise):
    Journal(path).append(RECORDS[0])
    with path.open("ab") as stream:
        stream.write(noise + b'{"event": "later"}\n')
    Journal(path).append(RECORDS[1])  # without having been read
    assert Journal(path).read() == RECORDS[:2]


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, IndexError])
def test_nothing_counts_from_the_first_record_that_is_refused(path, error):
    Journal(path).append(*RECORDS)
    picky, seen = Journal(path), []

    def accept(record) -> None:
        seen.append(record)
        if len(seen) == 2:
            raise error

    assert picky.read(accept) == RECORDS[:1]
    picky.append({"n": 2})
    assert Journal(path).read() == [RECORDS[0], {"n": 2}]


@pytest.mark.fuzz
@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none())), st.booleans())
@settings(deadline=None)
def test_any_text_survives(tmp_path_factory, records, ascii):
    path = tmp_path_factory.mktemp("journal") / "j"
    Journal(path, ascii=ascii).append(*records, sync=False)
    assert Journal(path).read() == records


def test_lone_surrogates_survive_in_valid_utf_8(path):
    records = [{"file": "名\udce9字"}, {"file": "名字"}]
    Journal(path).append(*records)
    assert Journal(path).read() == records
    assert "名字" in path.read_text(encoding="utf-8")


# ── a log of which only the end is judged ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("torn", [b"", b'{"event": "tw', b'{"event": "\xe7', b"\0\0\0", b"{" * 100_000])
@pytest.mark.parametrize("middle", [b"", b'{"event": "o\n', b"noise\n\n[1]\n\xff\xfe\n", b"\n"])
def test_a_torn_end_is_cut_and_no_line_before_it_is_lost(path, middle, torn):
    """Earlier versions left a torn line where it was and wrote on below it."""
    whole = b'{"n": 1}\n' + middle + b'{"n": 2}\n'
    path.write_bytes(whole + torn)
    log = Journal(path, tail_only=True)
    log.append({"n": 3}, sync=False)
    log.append({"n": 4}, sync=False)
    assert path.read_bytes() == whole + b'{"n": 3}\n{"n": 4}\n'


def test_a_last_line_that_only_lacks_its_line_break_is_whole(path):
    path.write_bytes(b'{"n": 1}\n{"n": 2}')
    Journal(path, tail_only=True).append({"n": 3})
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n{"n": 3}\n'


@pytest.mark.parametrize("length", [journal.TAIL_BYTES + n for n in (-12, -1, 0, 1)] + [3 * journal.TAIL_BYTES])
def test_a_long_torn_line_is_cut_whole(path, length):
    path.write_bytes(b'{"n": 1}\n' + b'{"n": "' + b"x" * length)
    Journal(path, tail_only=True).append({"n": 2})
    assert Journal(path).read() == [{"n": 1}, {"n": 2}]


def test_lines_that_someone_else_adds_stay(path):
    log = Journal(path, tail_only=True)
    log.append({"n": 1})
    with path.open("ab") as stream:
        stream.write(b"a note\n")
    log.append({"n": 2})
    assert path.read_bytes() == b'{"n": 1}\na note\n{"n": 2}\n'
    path.unlink()
    log.append({"n": 3})
    assert Journal(path).read() == [{"n": 3}]


def test_a_full_disk_leaves_such_a_log_as_it_was(path, monkeypatch):
    path.write_bytes(b'{"n": 1}\nnoise\n{"n": 2}')
    log = Journal(path, tail_only=True)
    with monkeypatch.context() as patch:
        full_disk(patch, 5)
        with pytest.raises(OSError, match="No space"):
            log.append({"n": 3})
    log.append({"n": 3})
    assert path.read_bytes() == b'{"n": 1}\nnoise\n{"n": 2}\n{"n": 3}\n'


# ── when writing fails ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_leaves_nothing_half_and_the_next_append_works(path, monkeypatch):
    log = Journal(path)
    log.append(RECORDS[0])
    before = path.read_bytes()
    for room in (0, 5, 40):  # the last: one record whole, the other one not
        with monkeypatch.context() as patch:
            full_disk(patch, room)
            with pytest.raises(OSError, match="No space"):
                log.append(RECORDS[1], RECORDS[2])
        assert path.read_bytes() == before
    log.append(RECORDS[1], RECORDS[2])
    assert Journal(path).read() == RECORDS


def test_what_could_not_be_cut_away_is_cut_by_the_next_append(path, monkeypatch):
    log = Journal(path)
    log.append(RECORDS[0])
    with monkeypatch.context() as patch:
        full_disk(patch, 40)
        patch.setattr(journal.os, "truncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        with pytest.raises(OSError, match="No space"):
            log.append(RECORDS[1], RECORDS[2])
    assert Journal(path).read() == RECORDS[:2]  # to a stranger one of them looks written
    log.append(RECORDS[2])
    assert Journal(path).read() == [RECORDS[0], RECORDS[2]]  # but the append failed, so it does not count


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_record_that_may_not_be_on_the_disk_does_not_count(path, monkeypatch, failure):
    log = Journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "fsync", lambda _: (_ for _ in ()).throw(failure))
        with pytest.raises(type(failure)):
            log.append(RECORDS[0])
    assert Journal(path).read() == []
    log.append(RECORDS[1])
    assert Journal(path).read() == [RECORDS[1]]


def test_what_json_cannot_hold_writes_nothing(path):
    log = Journal(path)
    log.append(RECORDS[0])
    with pytest.raises(TypeError):
        log.append(RECORDS[1], {"path": path})
    assert Journal(path).read() == RECORDS[:1]


@pytest.mark.parametrize("left", [b"", b'{"a": 1}\n', None])
def test_a_file_that_someone_cut_or_removed_is_not_filled_up_with_zeros(path, left):
    log = Journal(path)
    log.append(*RECORDS)
    path.unlink() if left is None else path.write_bytes(left)
    log.append({"b": 2})
    assert Journal(path).read() == ([{"a": 1}] if left else []) + [{"b": 2}]


def test_only_what_must_survive_a_power_cut_waits_for_the_disk(path, monkeypatch):
    calls = []
    monkeypatch.setattr(journal.os, "fsync", lambda _: calls.append("file"))
    monkeypatch.setattr(journal, "sync_folder", lambda folder: calls.append(folder))
    log = Journal(path)
    log.append(RECORDS[0], sync=False)
    assert calls == []
    log.append(RECORDS[1])
    assert calls == ["file"]
    Journal(path.with_name("new")).append(RECORDS[0])  # its name must survive too
    assert calls == ["file", "file", path.parent]


KILLED = """
import sys
from pathlib import Path
from zhsenti.core.journal import Journal
log = Journal(Path(sys.argv[1]))
for number in range(10**9):
    log.append({"number": number, "text": "很好" * 5000}, sync=False)
    print(number, flush=True)
"""


def test_what_was_written_before_a_kill_counts(path):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=ENV) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 20:
                process.kill()
                break
        told = [int(line), *map(int, process.stdout.read().split())][-1]
    numbers = [record["number"] for record in Journal(path).read()]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] >= told
