"""What a user sees while work goes on: drawn on a terminal, told in a log, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from tests.paths import ROOT
from zhsenti.core import console
from zhsenti.core.console import TELL_EVERY, Progress, duration, gigabytes, say


@pytest.fixture
def clock(monkeypatch):
    """A list with the time in seconds; tests move it."""
    now = [1000.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 秒"), (12, "12 秒"), (59.6, "1 分 0 秒"), (250, "4 分 10 秒"), (11_100, "3 小时 5 分"), (-1, "0 秒")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(("size", "said"), [(4.2e9, "4.2 GB"), (1e8, "0.1 GB"), (35e6, "35.0 MB"), (0, "0.0 MB")])
def test_sizes(size, said):
    assert gigabytes(size) == said


def test_a_line_is_said_as_it_is(capsys):
    say("[red]很长 :smile:" + "很" * 300)
    say("之下", indent=2)
    seen = capsys.readouterr()
    assert seen.err == "[red]很长 :smile:" + "很" * 300 + "\n    之下\n"
    assert not seen.out


@pytest.mark.parametrize("state", ["closed", "none", "broken"])
def test_nobody_listening_costs_the_lines_not_the_work(monkeypatch, capsys, state):
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    if state == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", None if state == "none" else stream)
    with Progress() as progress:
        bar = progress.add("打分", 10)
        bar.advance(5)
        bar.tell()
        say("很好" * 10_000)
    assert not capsys.readouterr().out
    if state == "broken":
        with pytest.raises(BrokenPipeError):
            stream.close()


# ── what a bar says ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_has_counts_rate_note_and_time_left(clock):
    bar = Progress().add("训练", 60, unit="步", note="损失 0.53")
    assert bar.line() == "训练 0/60 步  损失 0.53"
    clock[0] += 20
    bar.advance(10)
    assert bar.line() == "训练 10/60 步  2.0 秒/步  损失 0.53  剩余 1 分 40 秒"
    clock[0] += 30  # time goes by within a step
    assert bar.line() == "训练 10/60 步  2.0 秒/步  损失 0.53  剩余 1 分 10 秒"


def test_what_was_done_before_took_no_time(clock):
    bar = Progress().add("", 1_001_000, unit="行", done=1_000_000)
    assert bar.line() == "1,000,000/1,001,000 行"
    clock[0] += 10
    bar.set(1_000_200)
    assert bar.line() == "1,000,200/1,001,000 行  20.0 行/秒  剩余 40 秒"


def test_the_clock_can_begin_when_the_work_does(clock):
    bar = Progress().add("打分", 100, done=50)
    clock[0] += 600  # a model is loaded
    bar.begin()
    clock[0] += 10
    bar.advance(10)
    assert bar.line() == "打分 60/100 条  1.0 条/秒  剩余 40 秒"


def test_work_is_measured_in_another_quantity_than_is_shown(clock):
    bar = Progress().add("打分", 200, share=0.5, done=64)  # long texts come first: half of the characters
    clock[0] += 10
    bar.advance(8, share=0.1)
    assert bar.line() == "打分 60%  72/200 条  1.2 秒/条  剩余 40 秒"
    bar.set(72, share=0.75)
    assert bar.line() == "打分 75%  72/200 条  1.2 秒/条  剩余 10 秒"


def test_of_a_file_only_the_share_is_known(clock):
    bar = Progress().add("", None, unit="行", share=0.0)
    assert bar.line() == "0%"
    clock[0] += 4
    bar.set(12_345, share=0.25)
    assert bar.line() == "25%  12,345 行  3,086.2 行/秒  剩余 12 秒"
    bar.finish()
    assert bar.line() == "100%  12,345/12,345 行  3,086.2 行/秒"


def test_nothing_known_nothing_said_of_the_end(clock):
    bar = Progress().add("读", None, unit="行")
    assert bar.line() == "读"
    clock[0] += 2
    bar.advance(10)
    assert bar.line() == "读 10 行  5.0 行/秒"


def test_the_end_has_no_time_left_and_more_may_come(clock):
    bar = Progress().add("打分", 10)
    clock[0] += 10
    bar.advance(20)
    assert bar.line() == "打分 20/10 条  2.0 条/秒"
    bar.total, bar.title, bar.note = 40, "再打分", "读自缓存"
    bar.set(20)
    assert bar.line() == "再打分 20/40 条  2.0 条/秒  读自缓存  剩余 10 秒"
    bar.finish()
    assert bar.line() == "再打分 40/40 条  2.0 条/秒  读自缓存"
    assert Progress().add("空", 0).line() == "空 0/0 条"


def test_a_worker_thread_may_move_a_bar(clock):
    bar = Progress().add("打分", 40_000)
    threads = [threading.Thread(target=lambda: [bar.advance() for _ in range(10_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bar.done == 40_000


# ── in a log ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_gets_a_line_now_and_then(clock, capsys):
    with Progress() as progress:
        bar = progress.add("打分", 1000)
        for _ in range(100):
            clock[0] += 1
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  打分 30/1,000 条  1.0 条/秒  剩余 16 分 10 秒"
    assert len(lines) == 100 // TELL_EVERY


def test_a_line_can_be_asked_for_and_then_the_next_one_waits(clock, capsys):
    with Progress() as progress:
        bar = progress.add("训练", 60, unit="步")
        clock[0] += TELL_EVERY - 1
        bar.set(10)
        bar.tell()
        clock[0] += TELL_EVERY - 1
        bar.set(20)
        bar.remove()
    assert capsys.readouterr().err.splitlines() == ["  训练 10/60 步  2.9 秒/步  剩余 2 分 25 秒"]


def test_a_log_needs_no_rich():
    code = (
        "import sys; from zhsenti.core.console import Progress, say\n"
        "with Progress() as p: bar = p.add('a', 2); bar.advance(); bar.tell(); say('b')\n"
        "assert not {'rich', 'torch', 'numpy', 'jinja2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "b"


# ── on a terminal ─────────────────────────────────────────────────────────────────────────────────────────────────

DRAWN = """
import sys, time
from zhsenti.core.console import Progress, say
with Progress(transient={transient}) as progress:
    bar = progress.add("[b]训练", 60, unit="步", note="损失 0.5312  验证准确率 92.50%")
    gone = progress.add("验证", None)
    say("[red]一行 :smile:" + "很" * 60)
    print("结果")
    print("警告", file=sys.stderr)
    bar.advance(30)
    time.sleep(0.6)
    gone.remove()
    bar.finish()
say("之后")
"""


def on_a_terminal(code: str, columns: int, **variables: str) -> tuple[str, str]:
    """What ``code`` wrote to a terminal as standard error, and to a pipe as standard output."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=theirs, encoding="utf-8"
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # Linux: the other end was closed
        pass
    os.close(ours)
    out, _ = process.communicate()
    assert process.returncode == 0, seen.decode()
    return seen.decode().replace("\r\n", "\n"), out


@pytest.mark.parametrize("columns", [30, 80, 120])
def test_a_bar_is_drawn_below_the_lines(columns):
    seen, out = on_a_terminal(DRAWN.format(transient=False), columns)
    assert out == "结果\n", "what is piped on stays out of the display"
    assert "[red]一行 :smile:" + "很" * 60 + "\n" in seen, "no markup, no emoji, no wrapping"
    assert "警告" in seen
    assert "[b]训练" in seen
    assert "━" in seen
    assert seen.endswith("之后\n")
    if columns >= 80:
        for part in ("30/60 步", "步/秒", "损失", "剩余 ", "60/60 步"):
            assert part in seen, part
    if columns >= 120:
        assert "损失 0.5312  验证准确率 92.50%" in seen


def test_a_transient_bar_leaves_no_trace():
    last = {kind: on_a_terminal(DRAWN.format(transient=kind), 120)[0].split("警告")[1] for kind in (False, True)}
    assert last[False].rfind("60/60 步") > last[False].rfind("\x1b[2K")
    assert last[True].rfind("60/60 步") < last[True].rfind("\x1b[2K")


def test_a_dumb_terminal_is_a_log():
    seen, _ = on_a_terminal(DRAWN.format(transient=False), 80, TERM="dumb")
    assert "\x1b" not in seen
    assert "━" not in seen
