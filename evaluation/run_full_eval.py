"""Evaluate an adapter beside its baselines. Thin: the work is in zhsenti/evaluation/command.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zhsenti.errors import exit_on_error
from zhsenti.evaluation.command import main

if __name__ == "__main__":
    sys.exit(exit_on_error(main))
