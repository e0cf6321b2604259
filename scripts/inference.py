"""Alias of ``zhsenti predict``."""

from zhsenti.cli import run

if __name__ == "__main__":
    run("predict")
