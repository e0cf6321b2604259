"""The bare base with the adapter's own prompt and label words: what training has brought."""

from __future__ import annotations

from zhsenti.evaluation.systems import Context, System


def zero_shot(context: Context) -> System:
    """The base of the adapter under test, without the adapter."""
    return System(
        "zero_shot",
        "零样本",
        "zero_shot",
        english="zero-shot",
        identity={"system": "zero_shot", **context.base_identity},
        prepare=lambda: (context.predictor.zero_shot().log_probs, []),
        notes=("同一基座、同一提示、同样的标签词，不用适配器",),
    )
