"""Another checkout against this one, through the promised command lines only: are the results the same, and the speed?

    python benchmarks/against --before ../before [--dataset DIR] [--model embedded] [--only same|speed]
                                 [--steps train,scores] [--json FILE]

same   Help texts; the loss curve, weights and manifest of a short training with each method, resumed from half-way
       too; scores of 200 rows with the adapter trained by ``--before`` and with the checkout's own; every file of an
       evaluation but those in UNCOMPARED; bytes of batch jobs (CSV, JSONL, Parquet); answers of the service; an
       exported model. One line a comparison; exit code 1 if any differs.
speed  Whole processes in turns (before, after, before, …): medians, and after ÷ before.

Commands run in a temporary folder, with relative paths, so that both sides' JSONs name the same ones: nothing but the
fields in VOLATILE is left out of a comparison. Threads and the memory budget are fixed, since they decide how sums are
cut. The before side of "same" is kept in ``--cache`` by commit, sources, settings and machine, one file a step: a rerun
only computes this checkout's. Every comparison is printed and written to ``--json`` as soon as it is made.
``--after ../before`` holds a checkout against a second run of itself.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from checkout import SETTINGS, Checkout, Failed
from compare import compare
from inputs import read_split, write_inputs
from origin import check_import, commit, machine, sources_sha256
from results import digest
from speed import speed
from steps import fingerprint, with_needed

ROOT = Path(__file__).resolve().parents[2]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="与另一份代码比较：结果是否相同，速度是否变了")
    parser.add_argument("--before", type=Path, required=True, help="旧代码的文件夹（如一个 git worktree）")
    parser.add_argument("--after", type=Path, default=ROOT, help="新代码的文件夹（默认这一份）")
    parser.add_argument("--dataset", type=Path, default=ROOT.parent / "shared/data/chnsenticorp",
                        help="有 train、dev、test 三个 TSV 或 CSV 的文件夹")  # fmt: skip
    parser.add_argument("--model", default="embedded", help="embedded、embedded-1.5b 或模型文件夹")
    parser.add_argument("--only", choices=("same", "speed"), help="只比较结果，或只比较速度")
    parser.add_argument("--steps", default="", help="比较哪些步骤：名称的开头，用逗号隔开（默认全部）")
    parser.add_argument("--before-only", action="store_true", help="只算旧代码的结果，存进缓存")
    parser.add_argument("--turns", type=int, default=3, help="速度各测几轮（默认 3）")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/zhsenti-against"), help="旧代码的结果存在哪里")
    parser.add_argument("--json", type=Path, help="结果写入这个文件")
    return parser.parse_args(argv)


def write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    roots = {"before": args.before.resolve(), "after": args.after.resolve()}
    model = str(Path(args.model).resolve()) if Path(args.model).is_dir() else args.model
    origin = {name: {"commit": commit(root), "sources_sha256": sources_sha256(root)} for name, root in roots.items()}
    splits = {name: digest(repr(read_split(args.dataset, name))) for name in SETTINGS["splits"]}
    libraries = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pyarrow", "scikit-learn")
    where = {"model": args.model, "dataset_sha256": splits, "settings": SETTINGS, "machine": machine(),
             "versions": {name: version(name) for name in libraries}}  # fmt: skip
    kept = args.cache.expanduser() / digest(json.dumps([origin["before"], where], sort_keys=True))[:16]
    kept.mkdir(parents=True, exist_ok=True)
    provenance = {"date": time.strftime("%Y-%m-%d"), "dataset": args.dataset.name, **origin, **where}
    (kept / "provenance.json").write_text(json.dumps(provenance, ensure_ascii=False, indent=2), encoding="utf-8")
    result: dict[str, Any] = {"provenance": provenance}
    with tempfile.TemporaryDirectory() as folder:
        sides = [Checkout(name, root, Path(folder) / name, model) for name, root in roots.items()]
        for code in sides[:1] if args.before_only else sides:
            code.work.mkdir()
            write_inputs(args.dataset, code.work)
            check_import(code)
        print(f"旧代码的结果存在 {kept}", flush=True)
        wanted = with_needed(tuple(args.steps.split(",")))
        before = dict(fingerprint(sides[0], kept, ("train/",) if args.only == "speed" else ("train/", *wanted)))
        if args.before_only:
            return 0
        if args.only != "speed":
            for name, value in fingerprint(sides[1], kept, wanted):
                same = compare(name, before[name.replace("scores_own", "scores")], value)
                result.setdefault("same", {})[name] = same
                write(args.json, result)
        if args.only != "same":
            result["speed"], result["turns"] = speed(sides, kept, args.turns)
    if provenance["after"]["sources_sha256"] != sources_sha256(roots["after"]):
        print("注意：新代码在比较的时候被改过，前后各步用的不是同一份", flush=True)
    write(args.json, result)
    return int(not all(item["equal"] for item in result.get("same", {}).values()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the command it runs and its folder go too
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"错误：{error}")
