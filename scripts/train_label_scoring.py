"""Alias of ``zhsenti train --method label_scoring``."""

from zhsenti.cli import run

if __name__ == "__main__":
    run("train", "--method", "label_scoring")
