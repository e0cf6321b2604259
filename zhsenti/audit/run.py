"""What is wrong with a data set, found before any compute is spent on it. Pure: rows in, one ``Audit`` out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zhsenti.audit.checks import CHECKS
from zhsenti.audit.checks.base import AuditOptions, CountTokens
from zhsenti.audit.files import from_dataset
from zhsenti.audit.findings import Audit
from zhsenti.audit.rows import AuditSplit, Rows
from zhsenti.audit.tokenizer import find_tokenizer
from zhsenti.core.errors import DataError
from zhsenti.data.split import DatasetSplits
from zhsenti.task import SentimentTask


def audit(splits: Sequence[AuditSplit], task: SentimentTask, options: AuditOptions | None = None) -> Audit:
    """Make every check on all rows together.

    Args:
        splits: The rows, at least one in each.
        task: What the labels mean, the prompt, and how long it may be.
        options: How it is done; None: with what every machine has.

    Returns:
        What all checks say: kinds of findings and warnings with the worst first.

    Raises:
        DataError: There is no row, or a name is used twice.
    """
    options = options or AuditOptions()
    doubled = [name for name, n in Counter(split.name for split in splits).items() if n > 1]
    if doubled:
        raise DataError(f"有不止一份数据叫 {'、'.join(doubled)}", todo="给文件取不同的名字。")
    if not splits or not all(len(split.texts) for split in splits):
        raise DataError("没有可审计的数据行", found="、".join(split.source for split in splits) or "没有文件")
    rows = Rows(splits, task.labels)
    checks = [CHECKS.load(name) for name in CHECKS]
    outcomes = []
    for check in checks:
        options.stage(check.title)
        outcomes.append(check.run(rows, task, options))

    kinds = sorted((kind for check in checks for kind in check.kinds), key=lambda kind: kind.rank)
    place = {kind.name: place for place, kind in enumerate(kinds)}
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    warnings = [warning for outcome in outcomes for warning in outcome.warnings]
    fields = {name: value for outcome in outcomes for name, value in outcome.fields.items()}
    return Audit.model_validate(
        {
            "labels": list(task.labels),
            "warnings": [warning.sentence for warning in sorted(warnings, key=lambda warning: warning.rank)],
            "notes": [note for outcome in outcomes for note in outcome.notes],
            "findings": sorted(findings, key=lambda finding: place[finding.kind]),
            **fields,
        }
    )


def audit_splits(
    splits: DatasetSplits, task: SentimentTask, *, seed: int = 42, count_tokens: CountTokens | None = None
) -> Audit:
    """Audit rows that are already loaded, such as those of an evaluation.

    Args:
        splits: The rows.
        task: What the labels mean, the prompt, and how long it may be.
        seed: Of MinHash and of the folds.
        count_tokens: Counts tokens; None: the tokenizer of an embedded model at hand does, else they are estimated.
    """
    count_tokens = count_tokens or find_tokenizer(None, None)[0]
    return audit(from_dataset(splits), task, AuditOptions(count_tokens=count_tokens, seed=seed))
