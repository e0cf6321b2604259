"""Alias of ``zhsenti evaluate --report false --baselines none``."""

from zhsenti.cli import run

if __name__ == "__main__":
    run("evaluate", "--report", "false", "--baselines", "none")
