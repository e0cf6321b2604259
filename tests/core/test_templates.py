"""One template environment: where it looks, what it escapes, and that a missing value is an error."""

from __future__ import annotations

import jinja2
import pytest

from zhsenti.core.templates import code, environment, markdown

HOSTILE = '<script>"a" & `b`</script>'


def from_dict(**templates: str) -> jinja2.Environment:
    named = {name.replace("_", "."): text for name, text in templates.items()}
    return environment(loaders=[jinja2.DictLoader(named)])


def test_html_is_escaped_and_markdown_by_filter_alone():
    made = from_dict(a_html_j2="{{ x }}", a_md_j2="{{ x }} {{ x | md }} {{ x | code }}")
    assert "<script>" not in made.get_template("a.html.j2").render(x=HOSTILE)
    assert "<script>" not in made.from_string("{{ x }}").render(x=HOSTILE)
    shown = made.get_template("a.md.j2").render(x=HOSTILE)
    assert shown == f"{HOSTILE} {markdown(HOSTILE)} {code(HOSTILE)}"


def test_a_missing_value_is_an_error_and_tags_leave_no_lines():
    made = from_dict(a_html_j2="{% if x %}\n  {% set y = x %}\n{{ y }}\n{% endif %}\n{{ z }}")
    with pytest.raises(jinja2.UndefinedError, match="z"):
        made.get_template("a.html.j2").render(x=1)
    assert made.get_template("a.html.j2").render(x=1, z=2) == "1\n2"


def test_core_comes_first_then_packages_then_loaders(tmp_path, monkeypatch):
    (tmp_path / "toy_package" / "templates").mkdir(parents=True)
    (tmp_path / "toy_package" / "__init__.py").touch()
    for name in ("style.css.j2", "own.html.j2"):
        (tmp_path / "toy_package" / "templates" / name).write_text("from the package", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    more = jinja2.DictLoader({"own.html.j2": "from the loader", "more.html.j2": "from the loader"})
    made = environment("toy_package", loaders=[more])
    assert "--ink" in made.get_template("style.css.j2").render()
    assert made.get_template("own.html.j2").render() == "from the package"
    assert made.get_template("more.html.j2").render() == "from the loader"
    with pytest.raises(jinja2.TemplateNotFound):
        made.get_template("none.html.j2")


def test_a_package_without_templates_is_an_error():
    with pytest.raises(ValueError, match="json"):
        environment("json")
    with pytest.raises(ModuleNotFoundError):
        environment("no_such_package")


def test_markdown_shows_text_and_does_nothing_else():
    assert markdown("# [a](b)\n<img>  *c*|d~!\\") == r"\# \[a\](b) \<img\> \*c\*\|d\~\!" + "\\\\"
    assert code("a`b\nc\rd") == "a'b\\nc d"
