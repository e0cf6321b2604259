"""The parts of benchmarks/gpu.py, in order of worth; the number is a section's share of the time."""

import time

STARTED = time.monotonic()
SECTIONS = {"correctness": 90, "training": 120, "qlora": 75, "scoring": 70, "kernels": 75, "memory": 50}
