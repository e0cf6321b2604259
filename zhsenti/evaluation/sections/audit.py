"""Is the data behind the numbers sound? The view of ``zhsenti audit`` on all rows of the data set."""

from __future__ import annotations

from collections.abc import Iterator

from zhsenti.audit.checks import CHECKS
from zhsenti.audit.findings import FORMAT, Audit, write_findings
from zhsenti.audit.view import audit_view
from zhsenti.core.console import say
from zhsenti.core.files import write_json
from zhsenti.core.hashing import json_sha256, rows_sha256
from zhsenti.evaluation.sections.base import Section

MAX_AUDITED = 200_000  # rows: more take minutes and gigabytes, which `zhsenti audit` may
TABLE = "audit_findings.csv"


class AuditSection(Section[Audit | None]):
    """The data audit, made once for each state of the data; None where it was not asked for or the data is large."""

    template = "audit.html.j2"
    packages = ("zhsenti.audit",)

    def title(self) -> str:
        return "数据审计"

    def compute(self) -> Audit | None:
        from zhsenti.audit.run import audit_splits
        from zhsenti.audit.tokenizer import find_tokenizer

        run, whole = self.run, self.run.data.whole
        parts = (whole.train, whole.dev, whole.test)
        if not run.config.audit or sum(map(len, parts)) > MAX_AUDITED:
            return None
        rows = [[rows_sha256(row.cells for row in part), [row.row for row in part]] for part in parts]
        count_tokens, on_tokens = find_tokenizer(None, run.manifest)
        tokens = [on_tokens, run.manifest.base["revision"]]
        key = json_sha256([FORMAT, list(CHECKS), rows, run.manifest.task.to_dict(), tokens, run.config.seed])
        path = run.cache / f"audit-{key}.json"
        if path.is_file():
            try:
                return Audit.model_validate_json(path.read_bytes())
            except ValueError:
                pass  # torn or from another version: made again
        audit = audit_splits(whole, run.manifest.task, seed=run.config.seed, count_tokens=count_tokens)
        write_json(path, audit.model_dump(mode="json"))
        return audit

    def show(self) -> None:
        if self.result is None:
            say(f"跳过{'：数据太大，请单独运行 zhsenti audit' if self.run.config.audit else ''}", indent=1)

    def advice(self) -> Iterator[str]:
        if self.result and self.result.suspects:
            yield f"数据里有 {self.result.suspects} 条标签值得人工复核（见 {TABLE}）。"

    def write_tables(self) -> list[str]:
        path = self.run.folder / TABLE
        path.unlink(missing_ok=True)
        if self.result is None:
            return []
        write_findings(path, self.result.findings)
        return [TABLE]

    def context(self) -> dict[str, object]:
        return {"audit": audit_view(self.result) if self.result else None}
