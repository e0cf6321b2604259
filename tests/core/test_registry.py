"""A registry names what it does not import yet, keeps its order, and helps with a name mistyped."""

from __future__ import annotations

import sys
from fractions import Fraction

import pytest

from zhsenti.core.errors import ConfigError
from zhsenti.core.registry import Registry


@pytest.fixture
def methods() -> Registry[type]:
    return Registry("方法", {"label_scoring": "fractions:Fraction", "classifier_head": "no_such_module:Head"})


def test_listing_imports_nothing_and_loading_does(methods, monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    methods["later"] = "colorsys:rgb_to_hsv"
    assert list(methods) == ["label_scoring", "classifier_head", "later"]
    assert "later" in methods
    assert "colorsys" not in sys.modules
    assert methods.load("later")(0, 0, 0) == (0.0, 0.0, 0)
    assert methods.load("label_scoring") is Fraction


def test_an_entry_may_be_the_object_itself(methods):
    class Toy:
        pass

    methods["toy"] = Toy
    assert methods.load("toy") is Toy


def test_an_unknown_name_is_told_what_there_is_and_what_it_is_like(methods):
    with pytest.raises(ConfigError) as caught:
        methods.load("label_scorng")
    assert str(caught.value).splitlines() == [
        "没有叫 label_scorng 的方法",
        "  期望：label_scoring、classifier_head",
        "  怎么办：是否指 label_scoring？",
    ]
    with pytest.raises(ConfigError) as caught:
        methods.load("xyz")
    assert "怎么办" not in str(caught.value)


def test_an_entry_that_leads_nowhere_says_so(methods):
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        methods.load("classifier_head")
    methods["wrong"] = "fractions:Fractoin"
    with pytest.raises(AttributeError, match="Fractoin"):
        methods.load("wrong")
