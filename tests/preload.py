"""What every training in a process would find out or do again is done once: two thirds of a tiny training's time.

``tests/conftest.py`` calls ``share_work`` before every test. A server that forks processes imports this module last of
all that it preloads (``set_forkserver_preload``), so that they start with the work done.
"""

from __future__ import annotations

import functools
import gc
import sys

HEAVY = ("torch", "transformers", "peft")


def share_work() -> None:
    """Measure this machine once a process, and keep what the large libraries hold out of garbage collections.

    Nothing happens before a test has imported them.
    """
    if (plan := sys.modules.get("zhsenti.training.plan")) and not hasattr(plan.gemm_flops, "cache_info"):
        plan.gemm_flops = functools.cache(plan.gemm_flops)
    if all(name in sys.modules for name in HEAVY) and not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


share_work()
