"""The model card: README.md in the adapter folder, in the form the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zhsenti.artifact import CARD, Artifact, check_unchanged
from zhsenti.core.errors import ArtifactError
from zhsenti.core.files import write_text
from zhsenti.core.templates import environment
from zhsenti.evaluation.report.parts import render_part
from zhsenti.evaluation.report.verdict import Verdict
from zhsenti.evaluation.run import Run
from zhsenti.evaluation.sections.base import AnySection
from zhsenti.models.embedded import EMBEDDED
from zhsenti.models.sources import is_hub_id

MARK = "<!-- zhsenti: 由评估生成；删掉这一行后，以后的评估不再改动本文件 -->"
# Bases whose licence is Apache-2.0; those that packages carry are among them.
APACHE = tuple(f"Qwen/Qwen2.5-{size}" for size in ("0.5B", "1.5B", "Coder-0.5B", "Coder-1.5B"))


def write_card(path: Path, run: Run, sections: Sequence[AnySection], judged: Verdict) -> None:
    """Write the card to ``path``.

    Args:
        path: The file.
        run: The evaluation.
        sections: Its sections, computed; those with a ``card_template`` have a part in the card.
        judged: The report's first screen.
    """
    base = str(run.manifest.base.get("model_id", ""))
    base = f"Qwen/{EMBEDDED[base].title}" if base in EMBEDDED else base
    dataset = Path(run.data.splits.name).name  # a path on this machine is nobody else's business
    parts = [render_part(section, section.card_template).strip() for section in sections if section.card_template]
    template = environment("zhsenti.evaluation").get_template("card.md.j2")
    text = template.render(
        front_matter=_front_matter(run, base, dataset),
        mark=MARK,
        verdict=judged,
        dataset=dataset,
        run=run,
        base=base,
        parts="\n\n".join(filter(None, parts)),
    )
    write_text(path, text)


def _front_matter(run: Run, base: str, dataset: str) -> str:
    """What the hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    figures = [
        EvalResult(
            task_type="text-classification",
            task_name="中文情感分类",
            dataset_type=dataset,
            dataset_name=f"{dataset}（{title}，n={scores.n}）",
            dataset_split="test",
            metric_type=kind,
            metric_value=round(value, 4),
            metric_name=kind,
        )
        for scores, title in ((run.scores.official, "official"), (run.scores.leak_free, "leak-free"))
        if scores
        for kind, value in (("accuracy", scores.accuracy), ("f1", scores.macro_f1))
    ]
    data = ModelCardData(
        language="zh",
        license="apache-2.0" if base.startswith(APACHE) else None,
        library_name="peft",
        pipeline_tag="text-classification",
        tags=["sentiment-analysis", "chinese", "lora", "zhsenti", run.manifest.method],
        base_model=base if is_hub_id(base) else None,
        model_name=f"zhsenti-{run.manifest.method}",
        eval_results=figures,
    )
    return data.to_yaml()


def store_card(card: Path, artifact: Artifact) -> str:
    """Put the card into the adapter's folder unless a person's own README.md or another adapter is there.

    Returns:
        What was done (Chinese).
    """
    target = artifact.folder / CARD
    try:
        check_unchanged(artifact)
        if target.exists() and MARK not in target.read_text(encoding="utf-8", errors="replace"):
            return f"{target} 不是评估写的，没有改动；模型卡在 {card}"
        write_text(target, card.read_text(encoding="utf-8"))
    except (ArtifactError, OSError) as error:
        reason = error.problem if isinstance(error, ArtifactError) else error.strerror
        return f"模型卡没能写进适配器文件夹（{reason}）；它在 {card}"
    return f"模型卡：{target}"
