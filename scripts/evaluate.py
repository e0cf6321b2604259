"""Alias of ``zhsenti evaluate --report false --baselines none``; a YAML may say otherwise."""

from zhsenti.cli import run

if __name__ == "__main__":
    run("evaluate", report=False, baselines="none")
