"""The sections of an evaluation, in the order in which they are computed and read.

A new one is a file with a subclass of ``Section``, its templates beside it, and a line here or from outside::

    SECTIONS["mine"] = "my_package.my_module:MySection"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zhsenti.core.registry import Registry

if TYPE_CHECKING:
    from zhsenti.evaluation.sections.base import AnySection

SECTIONS: Registry[type[AnySection]] = Registry(
    "评估的一节",
    {
        "comparison": "zhsenti.evaluation.sections.comparison:ComparisonSection",
        "confidence": "zhsenti.evaluation.sections.confidence:ConfidenceSection",
        "robustness": "zhsenti.evaluation.sections.robustness:RobustnessSection",
        "errors": "zhsenti.evaluation.sections.errors:ErrorsSection",
        "audit": "zhsenti.evaluation.sections.audit:AuditSection",
    },
)
