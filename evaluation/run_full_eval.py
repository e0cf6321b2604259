"""Alias of ``zhsenti evaluate``."""

from zhsenti.cli import run

if __name__ == "__main__":
    run("evaluate")
