"""Every benchmark runs whole on the tiny model, ends with its promised lines and writes where its figures come from."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from tests import forked
from tests.paths import ROOT

CLOSING = {
    "training": ["training_speedup_vs_textbook", "training_share_of_gemm_peak", "training_peak_memory_gb"],
    "scoring": ["scoring_speedup_vs_textbook", "scoring_share_of_gemm_peak", "int8_speedup", "int8_agreement"],
    "startup": ["startup_overhead_s", "help_s"],
    "memory": ["loss_distance", "memory_worst_error"],
    "audit": ["audit_test_in_train", "audit_flip_recall", "audit_seconds", "audit_peak_memory_gb"],
    "scaling": ["scoring_reviews_worst_growth", "training_tokens_worst_growth"],
    "serving": ["serving_share_of_batch", "overload_lost", "overload_peak_rss_growth_mb", "p99_ms_at_8"],
    "activations": ["largest_residual", "share_of_float16"],
    "files": ["file_share_of_core", "file_rss_ratio_1m_vs_10k", "kill_resume_equal"],
}
LIMIT = {"activations": 6, "training": 24, "scoring": 12, "startup": 1, "memory": 24, "scaling": 40, "audit": 300,
         "serving": 24, "files": 24}  # fmt: skip
MORE = {
    "serving": ["--seconds", "1", "--overload_seconds", "1"],
    "files": ["--rows", "10", "1000", "--kills", "2"],
}


@pytest.mark.parametrize("name", CLOSING)
def test_benchmark(name, tiny_model, review_csv, tmp_path):
    out = tmp_path / f"{name}.json"
    words = [f"benchmarks/{name}.py", "--model", str(tiny_model), "--dataset", str(review_csv),
             "--limit", str(LIMIT[name]), "--json", str(out), *MORE.get(name, ())]  # fmt: skip
    done = forked.run(words, cwd=ROOT, env={**os.environ, "ZHSENTI_CACHE": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-3000:]
    values = dict(line.split(": ") for line in done.stdout.splitlines() if line.count(": ") == 1)
    written = json.loads(out.read_text(encoding="utf-8"))
    for line in CLOSING[name]:
        assert float(values[line]) == pytest.approx(written["figures"][line], rel=1e-3)
    assert set(written["provenance"]) >= {"command", "rows_sha256", "machine", "versions"}
    if name == "training":
        curve = written["losses"]
        assert len(curve["zhsenti"]) == len(curve["dynamic_labels"]) == 2
        assert written["figures"]["loss_distance_zhsenti"] < 0.02
    if name == "scaling":
        assert out.with_suffix(".png").stat().st_size > 10_000


GPU_SECTIONS = ("correctness", "training", "qlora", "scoring", "kernels", "memory")


def gpu_benchmark(folder, *flags):
    """benchmarks/gpu.py with tiny shapes: its result, and the JSON of every section."""
    done = forked.run(["benchmarks/gpu.py", "--smoke", "--json", str(folder), *flags], cwd=ROOT, env=os.environ)
    return done, {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def numbers(value):
    """All numbers in a JSON value, however deep."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, (int, float)) else []


def test_gpu_sections_run_whole_with_tiny_shapes(tmp_path):
    done, written = gpu_benchmark(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "gpu_sections_passed: 6"
    assert set(written) == set(GPU_SECTIONS)
    for name, section in written.items():
        assert (section["section"], section["status"], section["failures"], section["skipped"]) == (
            name,
            "passed",
            [],
            [],
        )
        assert section["figures"], name
        assert all(map(math.isfinite, numbers(section))), name
        came_from = section["provenance"]
        assert set(came_from) >= {"command", "device", "versions", "python", "date", "settings_sha256", "machine"}
        assert set(came_from["versions"]) >= {"torch", "transformers", "peft", "bitsandbytes"}
    shown = dict(line.split(": ") for line in done.stdout.splitlines() if line.count(": ") == 1)
    for name, value in written["training"]["figures"].items():
        assert float(shown[name]) == pytest.approx(value, rel=1e-3)
    cases = written["qlora"]["details"]["cases"]
    assert {case["fits"] for case in cases} == {True, False}
    assert all(case["trained"] == case["fits"] for case in cases)


def test_gpu_sections_end_in_time_and_say_what_was_left_out(tmp_path):
    done, written = gpu_benchmark(tmp_path, "--minutes", "0.0001")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "gpu_sections_passed: 0"
    assert {name: section["status"] for name, section in written.items()} == dict.fromkeys(GPU_SECTIONS, "skipped")
    for name in GPU_SECTIONS:
        assert f"跳过：整节 {name}" in done.stdout
        assert written[name]["skipped"] == [f"整节 {name}"]


def test_a_gpu_section_that_fails_writes_its_error_and_the_next_one_runs(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "import gpu, gpu_sections.qlora\n"
        "gpu_sections.qlora.qlora = lambda device, options: options.figures.update(half=1.0) or 1 / 0\n"
        f"sys.exit(gpu.main(['--smoke', '--sections', 'scoring,qlora', '--json', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "gpu_sections_passed: 1"
    broken, fine = (
        json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in ("qlora", "scoring")
    )
    assert (broken["status"], broken["figures"]) == ("failed", {"half": 1.0})
    assert "ZeroDivisionError" in broken["error"]
    assert fine["status"] == "passed"
