"""Python packages: are they there, in the versions this was tested with, and can each be imported?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from zhsenti.doctor.findings import NOTICE, OK, PROBLEM, Finding, clone_root, install_requirements, pip
from zhsenti.doctor.probe import Imported


def versions(root: Path | None = None) -> Iterator[Finding]:
    """Installed packages against what was tested.

    Args:
        root: A repository whose constraints.txt to take; None for that of this clone. Where the package was installed
            from a wheel its own requirements are taken.
    """
    from packaging.specifiers import SpecifierSet

    root = root or clone_root()
    asked = _closure(_declared(root))
    pins = _pins(root) if root else {}
    missing, broken, other = [], [], []
    for name in sorted(asked):
        installed, pin = _version(name), pins.get(name)
        wanted = pin or "、".join(sorted(filter(None, asked[name]))) or "任意版本"
        shown = f"{name} {installed}（应为 {wanted}）"
        if installed is None:
            missing.append(f"{name}（{wanted}）")
        elif not all(SpecifierSet(text).contains(installed, prereleases=True) for text in asked[name]):
            broken.append(shown)
        elif pin and not SpecifierSet(f"=={pin}").contains(installed, prereleases=True):
            other.append(shown)
    source = "constraints.txt " if root else "包的要求"
    if missing:
        found, todo = f"缺 {len(missing)} 个：{'、'.join(missing)}", _repair(root, missing)
        yield Finding("依赖（缺少）", PROBLEM, found, todo)
    if broken:
        found, todo = f"{len(broken)} 个不合要求：{'、'.join(broken)}", _repair(root, broken)
        yield Finding("依赖（版本）", PROBLEM, found, todo)
    if other:
        found = f"{len(other)} 个与 {source}不同：{'、'.join(other)}；多半能用，但没有测试过"
        yield Finding("依赖（版本）", NOTICE, found, _repair(root, other))
    if not (missing or broken or other):
        yield Finding("依赖", OK, f"{len(asked)} 个都在，版本与 {source}一致")


def _repair(root: Path | None, listed: Sequence[str]) -> str:
    if root:
        return install_requirements()
    return f"{pip()} install --upgrade {' '.join(re.split('[ （]', item)[0] for item in listed)}"


def _declared(root: Path | None) -> list[str]:
    if root:
        import tomllib  # not in Python 3.10, which another line reports

        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return project["dependencies"]
    return metadata.requires("zhsenti") or []


def _pins(root: Path) -> dict[str, str]:
    """Version by canonical name."""
    from packaging.utils import canonicalize_name

    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = (re.fullmatch(r"([\w.-]+)==([^\s;#]+)", line.split("#")[0].strip()) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def _closure(declared: Sequence[str]) -> dict[str, set[str]]:
    """Version specifiers by canonical name of all that ``declared`` needs here, as far as it is installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    asked: dict[str, set[str]] = defaultdict(set)
    queue = [(text, "") for text in declared]
    seen: set[tuple[str, str]] = set()
    while queue:
        text, extra = queue.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        asked[name].add(str(requirement.specifier))
        for wanted in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, wanted))
            queue += [(line, wanted) for line in _requires(name)]
    return asked


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    """None also where only broken metadata is left."""
    try:
        return metadata.metadata(name)["Version"]
    except (metadata.PackageNotFoundError, KeyError):
        return None


def imports(imported: Mapping[str, Imported]) -> Iterator[Finding]:
    """One line for all that can be imported, one for what is not installed, one for each that is broken."""
    failed = {name: result for name, result in imported.items() if result.error}
    absent = [name for name, result in failed.items() if result.error.endswith(f"No module named {name!r}")]
    if absent:
        yield Finding("导入", PROBLEM, f"没有安装：{'、'.join(absent)}", install_requirements())
    for name in (name for name in failed if name not in absent):
        missing = failed[name].error.startswith("ModuleNotFoundError")
        todo = install_requirements() if missing else _reinstall(name)
        yield Finding(f"导入（{name}）", PROBLEM, failed[name].error, todo)
    good = [name for name in imported if name not in failed]
    if good:
        seconds = sum(imported[name].seconds for name in good)
        yield Finding("导入", OK, f"{len(good)} 个库都能导入，共 {seconds:.1f} 秒：{'、'.join(good)}")


def _reinstall(library: str) -> str:
    """Of this library alone, in the tested version: its own needs are other lines of the report."""
    package = {"sklearn": "scikit-learn"}.get(library, library)
    root = clone_root()
    pin = _pins(root).get(package) if root else None
    again = f"{pip()} install --force-reinstall --no-deps {package}{'==' + pin if pin else ''}"
    return f"{again}；仍不行就看它的报错：python -c 'import {library}'"


def font(imported: Mapping[str, Imported]) -> Iterator[Finding]:
    """Whether pictures can have Chinese words in them."""
    facts = imported["matplotlib"].facts
    if "font" not in facts:
        yield Finding("中文字体", NOTICE, "matplotlib 不能导入，没法查", "先修好上面的 matplotlib。")
    elif facts["font"]:
        yield Finding("中文字体", OK, facts["font"])
    else:
        todo = "不要紧：报告网页里的图照常是中文。要中文 PNG：安装 Noto Sans CJK SC（Debian/Ubuntu：fonts-noto-cjk）。"
        yield Finding("中文字体", NOTICE, "没有，PNG 图里的字用英文", todo)
