"""The check of pinned packages in make lint: findings fail, an unreachable service is said, nothing is swallowed."""

from __future__ import annotations

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / ".ci" / "audit_packages.py"
spec = importlib.util.spec_from_file_location("audit_packages", PATH)
audit_packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit_packages)
verdict = audit_packages.verdict

CLEAN = {"name": "torch", "version": "2.13.0", "vulns": []}
FOUND = {"id": "GHSA-1", "aliases": ["CVE-2"], "fix_versions": ["3.1.7"]}
BAD = {"name": "jinja2", "version": "3.1.6", "vulns": [FOUND]}


def output(*dependencies):
    return json.dumps({"dependencies": dependencies, "fixes": []})


def test_a_finding_fails_and_names_package_version_advisory_and_fix():
    code, lines = verdict(output(CLEAN, BAD), "Found 1 known vulnerability in 1 package", {"torch", "jinja2"}, {})
    assert code == 1
    for part in ("jinja2 3.1.6", "GHSA-1", "CVE-2", "3.1.7"):
        assert part in "".join(lines), part


def test_an_ignored_finding_is_still_shown_with_its_reason_and_hides_no_other():
    ignored = {"CVE-2": "2026-11-24 模板不来自用户"}
    code, lines = verdict(output(BAD), "", {"jinja2"}, ignored)
    assert code == 0
    assert "2026-11-24 模板不来自用户" in lines[0]
    two = {**BAD, "vulns": [FOUND, {"id": "GHSA-9", "aliases": [], "fix_versions": []}]}
    code, lines = verdict(output(two), "", {"jinja2"}, ignored)
    assert code == 1
    assert "GHSA-9" in lines[1]
    assert "还没有" in lines[1]


def test_no_finding_passes():
    assert verdict(output(CLEAN), "No known vulnerabilities found", {"torch"}, {})[0] == 0


@pytest.mark.parametrize(
    ("stdout", "stderr", "said"),
    [
        (output({"name": "torch", "skip_reason": "Dependency not found on PyPI"}), "", "没有查到这些包的公告：torch"),
        (output(), "", "没有查到这些包的公告：torch"),
        (output(CLEAN), "WARNING:pip_audit._service.osv:Unsupported OSV schema version: 2.0", "没有读懂"),
        ("", "ERROR:pip_audit._cli:requirement 'a' is not pinned to an exact version", "not pinned"),
        ("<html>", "requests.exceptions.JSONDecodeError: Expecting value", "没有给出结果"),
        ("", "", "没有输出"),
    ],
)
def test_what_was_not_looked_up_is_never_taken_for_safe(stdout, stderr, said):
    code, lines = verdict(stdout, stderr, {"torch"}, {})
    assert code == 1
    assert said in "".join(lines)


def test_a_finding_beside_skipped_packages_is_not_lost():
    code, lines = verdict(output(BAD, {"name": "torch", "skip_reason": "x"}), "", {"torch", "jinja2"}, {})
    assert code == 1
    assert "GHSA-1" in "".join(lines)
    assert "torch" in "".join(lines)


def test_names_are_canonical():
    assert audit_packages.pinned("# a==1\npip_audit==2\nboolean.py==5.0\nJinja2==3\n") == {
        "pip-audit", "boolean-py", "jinja2"
    }  # fmt: skip


@pytest.fixture
def advisories():
    """A service as OSV's, which knows one advisory for one of our pinned packages."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = {}
            if asked["package"]["name"] == "jinja2":
                events = [{"introduced": "0"}, {"fixed": "99.1"}]
                affected = {
                    "package": {"name": "jinja2", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": events}],
                }
                answer = {"vulns": [{"id": "GHSA-test", "aliases": ["CVE-test"], "affected": [affected]}]}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_real_tool_finds_what_the_service_knows_and_says_when_it_is_gone(advisories, capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert audit_packages.main("--osv-url", advisories, "--cache-dir", str(tmp_path)) == 1
    said = capfd.readouterr().err
    assert "jinja2" in said
    assert "GHSA-test" in said
    assert "99.1" in said
    assert "没有查到" not in said  # every pinned package was looked up
    assert audit_packages.main("--osv-url", "http://127.0.0.1:9", "--cache-dir", str(tmp_path / "b")) == 0
    assert capfd.readouterr().out.startswith("!! 依赖漏洞没有检查：漏洞公告服务连不上")
