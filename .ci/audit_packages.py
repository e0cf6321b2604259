"""make lint: look up every version pinned in constraints.txt in the OSV advisories, through pip-audit.

A known vulnerability fails. An advisory service that is out of reach (CI without a network) is said in one line and
does not. Anything else that keeps packages from being looked up fails: silence must not look like safety.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
# Advisory -> "YYYY-MM-DD why it does not reach us". Still shown at every run.
IGNORED: dict[str, str] = {}
OUT_OF_REACH = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "ServiceError")


def pinned(text: str) -> set[str]:
    """Canonical names of the packages that a constraints file pins."""
    names = re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def verdict(stdout: str, stderr: str, wanted: set[str], ignored: dict[str, str]) -> tuple[int, list[str]]:
    """Exit code and Chinese lines for what pip-audit wrote (``-f json``); its own exit code says too little."""
    last = (stderr.strip().splitlines() or ["没有输出"])[-1][:300]
    try:
        dependencies = json.loads(stdout)["dependencies"]
        findings = [(d["name"], d["version"], v) for d in dependencies if "skip_reason" not in d for v in d["vulns"]]
        looked_up = {d["name"] for d in dependencies if "skip_reason" not in d}
    except (ValueError, KeyError, TypeError):
        kind = last.split(":")[0].rpartition(".")[2]  # of the exception that pip-audit died of
        if kind in OUT_OF_REACH:
            return 0, [f"!! 依赖漏洞没有检查：漏洞公告服务连不上（{kind}）。联网后请重跑 make lint。"]
        return 1, [f"!! 依赖漏洞检查失败：pip-audit 没有给出结果（{last}）"]
    code, lines = 0, []
    for name, version, found in findings:
        names = [found["id"], *found.get("aliases", [])]
        reason = next((ignored[n] for n in names if n in ignored), "")
        fixed = f"修复版本：{'、'.join(found['fix_versions']) or '还没有'}"
        what = f"已知并放过（{reason}）" if reason else "有漏洞"
        lines.append(f"{what}：{name} {version}，{'／'.join(names)}，{fixed}")
        code = code if reason else 1
    unread = [line for line in stderr.splitlines() if line.startswith("WARNING:pip_audit._service")]
    missed = sorted(wanted - looked_up)
    if unread or missed:
        code = 1
        lines += [f"!! 公告没有读懂：{line}" for line in unread]
        lines += [f"!! 没有查到这些包的公告：{'、'.join(missed)}"] if missed else []
    return code, lines or [f"依赖漏洞：{len(looked_up)} 个固定版本都没有已知漏洞"]


def main(*more: str) -> int:
    """``more`` goes to pip-audit, e.g. ``--osv-url`` of a mirror."""
    command = [sys.executable, "-P", "-m", "pip_audit", "-r", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    command += ["-s", "osv", "-f", "json", "--desc", "off", "--aliases", "on", "--progress-spinner", "off"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    code, lines = verdict(done.stdout, done.stderr, pinned(CONSTRAINTS.read_text(encoding="utf-8")), IGNORED)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
