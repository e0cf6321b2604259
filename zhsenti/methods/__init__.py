"""The registry of methods."""

from zhsenti.errors import ConfigError
from zhsenti.methods.base import Method
from zhsenti.methods.classifier_head import ClassifierHead
from zhsenti.methods.label_scoring import LabelScoring

METHODS: dict[str, type[Method]] = {method.name: method for method in (LabelScoring, ClassifierHead)}


def get_method(name: str) -> type[Method]:
    if name not in METHODS:
        raise ConfigError(f"没有叫 {name} 的方法", expected="、".join(METHODS))
    return METHODS[name]
