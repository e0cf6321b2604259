"""Reviews of random characters with the lengths of real ones, and a tokenizer that needs no file.

lengths.json counts the prompts of ChnSentiCorp's training split by their tokens; ``python benchmarks/gpu.py
--write_lengths DIR`` made it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

from zhsenti.core.files import write_text
from zhsenti.core.hashing import file_sha256
from zhsenti.methods import get_method
from zhsenti.methods.base import Method
from zhsenti.methods.prompt import Encoded
from zhsenti.task import SentimentTask

LENGTHS = Path(__file__).with_name("lengths.json")
SEED = 20
FIRST_CHARACTER, CHARACTERS = 0x4E00, 20_000  # common ideographs


class CharacterTokenizer:
    """One token a character, and one for each of ``words``: all that a method asks of a tokenizer.

    Args:
        vocab: How many tokens the network has.
        words: Label words.
    """

    def __init__(self, vocab: int, words: tuple[str, ...]) -> None:
        self.vocab, self.words = vocab, {word: 10 + number for number, word in enumerate(words)}

    def encode(self, text: str, *, split_special_tokens: bool = False) -> list[int]:
        if text in self.words:
            return [self.words[text]]
        first = 10 + len(self.words)
        return [first + ord(character) % (self.vocab - first) for character in text]


def stand_in_method(vocab: int, max_length: int) -> Method:
    """Label scoring with the default task, over the tokenizer that needs no file."""
    task = SentimentTask(max_length=max_length)
    return get_method("label_scoring")(task, CharacterTokenizer(vocab, task.words))  # type: ignore[arg-type]


def read_lengths(count: int, shorten: int) -> list[int]:
    """``count`` prompt lengths drawn from the histogram, each divided by ``shorten``; the same ones every time."""
    counted = json.loads(LENGTHS.read_text(encoding="utf-8"))["prompts_by_tokens"]
    drawn = random.Random(SEED).choices([int(n) for n in counted], weights=list(counted.values()), k=count)
    return [max(12, length // shorten) for length in drawn]


def texts_of(method: Method, lengths: list[int], seed: int = SEED) -> list[str]:
    """A random review for each prompt length."""
    literals, generator = len(method.encode("").ids), random.Random(seed)
    return ["".join(chr(FIRST_CHARACTER + generator.randrange(CHARACTERS)) for _ in range(max(2, length - literals)))
            for length in lengths]  # fmt: skip


def items_of(method: Method, lengths: list[int], seed: int = SEED) -> list[Encoded]:
    """The same as prompts, with random labels."""
    generator = random.Random(f"{seed}/labels")
    classes = len(method.task.labels)
    return [method.encode(text, generator.randrange(classes)) for text in texts_of(method, lengths, seed)]


def write_lengths(folder: Path) -> None:
    """Count the prompts of the training file in ``folder`` by their tokens, and write ``LENGTHS``."""
    from common import load_splits

    from zhsenti.models.backbone import Tokenizer
    from zhsenti.models.sources import resolve_model

    base, task = resolve_model("embedded"), SentimentTask()
    method, rows = get_method("label_scoring")(task, Tokenizer(base.path)), load_splits(str(folder)).train
    counted = Counter(len(method.encode(row.text).ids) for row in rows)
    source = next(path for path in sorted(folder.iterdir()) if path.stem == "train")
    values = {
        "source": "ChnSentiCorp, train",
        "file_sha256": file_sha256(source),
        "rows": len(rows),
        "tokenizer_sha256": file_sha256(base.path / "tokenizer.json"),
        "template": task.template,
        "max_length": task.max_length,
        "mean_tokens": round(sum(n * count for n, count in counted.items()) / len(rows), 2),
        "prompts_by_tokens": {str(n): counted[n] for n in sorted(counted)},
    }
    head = json.dumps({k: v for k, v in values.items() if k != "prompts_by_tokens"}, ensure_ascii=False, indent=2)
    counts = json.dumps(values["prompts_by_tokens"])
    write_text(LENGTHS, f'{head[:-2]},\n  "prompts_by_tokens": {counts}\n}}\n')
