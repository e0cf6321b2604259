"""Alias of ``zhsenti train --method classifier_head``."""

from zhsenti.cli import run

if __name__ == "__main__":
    run("train", "--method", "classifier_head")
