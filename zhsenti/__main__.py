"""``python -m zhsenti``."""

from zhsenti.cli import run

run()
