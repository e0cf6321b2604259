"""Every benchmark runs whole on the tiny model, ends with its promised lines and writes where its figures come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

CLOSING = {
    "training": ["training_speedup_vs_textbook", "training_share_of_gemm_peak", "training_peak_memory_gb"],
    "scoring": ["scoring_speedup_vs_textbook", "scoring_share_of_gemm_peak", "int8_speedup", "int8_agreement"],
    "startup": ["startup_overhead_s", "help_s"],
    "memory": ["loss_distance", "memory_worst_error"],
    "audit": ["audit_test_in_train", "audit_flip_recall", "audit_seconds", "audit_peak_memory_gb"],
    "scaling": ["scoring_reviews_worst_growth", "training_tokens_worst_growth"],
    "serving": ["serving_share_of_batch", "overload_lost", "overload_peak_rss_growth_mb", "p99_ms_at_8"],
    "files": ["file_share_of_core", "file_rss_ratio_1m_vs_10k", "kill_resume_equal"],
}
LIMIT = {"training": 24, "scoring": 12, "startup": 1, "memory": 24, "scaling": 40, "audit": 300, "serving": 24,
         "files": 24}  # fmt: skip
MORE = {
    "serving": ["--seconds", "1", "--overload_seconds", "1"],
    "files": ["--rows", "10", "1000", "--kills", "2"],
}


@pytest.mark.parametrize("name", CLOSING)
def test_benchmark(name, tiny_model, review_csv, tmp_path):
    out = tmp_path / f"{name}.json"
    command = [sys.executable, f"benchmarks/{name}.py", "--model", str(tiny_model), "--dataset", str(review_csv),
               "--limit", str(LIMIT[name]), "--json", str(out), *MORE.get(name, ())]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "ZHSENTI_CACHE": str(tmp_path)},
                          capture_output=True, text=True)  # fmt: skip
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
