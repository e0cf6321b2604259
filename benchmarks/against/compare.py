"""Two values of a step held against each other, in one line and the first places where they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from results import WEIGHTS


def differences(a: Any, b: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(place, before, after) of every leaf that is not equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from differences(a.get(key, "（没有）"), b.get(key, "（没有）"), f"{at}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, pair in enumerate(zip(a, b, strict=True)):
            yield from differences(*pair, f"{at}/{n}")
    elif (a != b or type(a) is not type(b)) and not (a != a and b != b):  # NaN is not equal to itself
        yield at, a, b


def compare(name: str, before: Any, after: Any) -> dict[str, Any]:
    """Print one line for a step, and its first differences.

    Args:
        name: The step.
        before: Its value in ``before``, of ``fingerprint``.
        after: Its value in this checkout, or what its command failed with.

    Returns:
        Whether they are equal, how many values differ, the largest distance of two numbers, the first five.
    """
    unequal = list(differences(before, after))
    numbers = [abs(a - b) for _, a, b in unequal if {type(a), type(b)} <= {int, float}]
    largest = max(numbers, default=None)
    first = [[place, short(a), short(b)] for place, a, b in unequal[:5]]
    distance = "" if largest is None else f"，数值最多差 {largest:.3g}"
    line = f"不同（{len(unequal)} 处{distance}）" if unequal else "相同"
    print(f"{name}：{line}{figure(after)}", flush=True)
    for place, a, b in first:
        print(f"    {place or '值'}：{a} → {b}", flush=True)
    return {"equal": not unequal, "different": len(unequal), "largest": largest, "first": first}


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:60]}…{text[-29:]}"


def figure(value: Any) -> str:
    """What a reader can hold on to: a run's last loss and accuracy, a number of rows, a hash."""
    if isinstance(value, dict) and "curve" in value:
        losses = [line["loss"] for line in value["curve"] if "loss" in line]
        last = next(files[WEIGHTS] for name, files in value.items() if name.startswith("checkpoint-"))
        both = f"适配器 {value['adapter'][WEIGHTS][:12]}，最后的检查点 {last[:12]}"
        return f"；{len(losses)} 步，损失 {losses[0]:.6f} → {losses[-1]:.6f}，{both}"
    if isinstance(value, list):
        return f"；{len(value)} 行"
    return f"；{value[:12]}" if re.fullmatch(r"[0-9a-f]{64}", str(value)) else ""
