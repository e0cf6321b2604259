"""zhsenti: Chinese sentiment classifiers from small LLMs, trained, checked and put to work."""

import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Prediction", "SentimentPredictor", "SentimentTask", "ZhsentiError", "__version__"]

# bitsandbytes (imported by peft) warns at every start that an optional kernels package is missing; nothing is wrong.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

if TYPE_CHECKING:
    from zhsenti.core.errors import ZhsentiError
    from zhsenti.prediction.predictor import SentimentPredictor
    from zhsenti.prediction.result import Prediction
    from zhsenti.task import SentimentTask

_HOMES = {
    "Prediction": "zhsenti.prediction.result",
    "SentimentPredictor": "zhsenti.prediction.predictor",
    "SentimentTask": "zhsenti.task",
    "ZhsentiError": "zhsenti.core.errors",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import zhsenti`` must not pay for torch (8 s) before it is needed."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zhsenti' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
