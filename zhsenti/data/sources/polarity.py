"""What 负面 and 正面 of a named two-way data set are in a user's task."""

from __future__ import annotations

from zhsenti.core.errors import DataError
from zhsenti.task import SentimentTask


def polar_indices(task: SentimentTask, name: str) -> tuple[int, int]:
    """The class indices of 负面 and 正面.

    The data set's own meaning counts: how its files happen to write their labels is none of the user's spellings, in
    which "0" may be neutral.

    Args:
        task: The user's.
        name: Of the data set, for the message.

    Raises:
        DataError: The task does not know both.
    """
    negative, positive = task.label_index("负面"), task.label_index("正面")
    if negative is None or positive is None:
        raise DataError(
            f"{name} 数据只有正面和负面，与任务的标签不符", found="、".join(task.labels), todo="换一个 --dataset。"
        )
    return negative, positive
