"""int8 never decides a close call: which of its scores are taken again in full precision.

How far int8 is off is measured when a model is loaded, on a few sentences of no data set: an adapter's larger scores
bring larger errors. Shapes: N rows, C classes.
"""

from __future__ import annotations

import numpy as np

# An int8 score is taken again in full precision when its best two labels are nearer than this many standard deviations
# of int8's error: a label should hardly ever depend on the precision (docs/log.md, 2026-11-24).
CLOSE_CALL = 1.4
PROBE = (
    "房间不大但是很干净，前台态度也好，就是隔音差了点。",
    "用了三天就坏了，客服说要等半个月，太让人失望了。",
    "书的内容还可以，翻译得磕磕绊绊，读起来很累。",
    "物流很快，包装完好，和描述的一样，满意。",
    "早餐品种少，电梯要等很久，价格倒是不贵。",
    "屏幕清楚，声音也大，玩游戏不发热，值这个价。",
    "第一次来的时候觉得不错，这次完全变了，不会再来。",
    "没有想象中那么好，也没有别人说的那么差，凑合用吧。",
    "键盘手感一般，散热风扇很吵，晚上用不了。",
    "孩子非常喜欢，每天晚上都要我读给他听。",
    "位置偏僻，打车都打不到，服务员爱答不理。",
    "性价比高，已经推荐给同事了，下次还买。",
    "发货发错了颜色，联系之后马上给换了，处理得挺好。",
    "作者东拉西扯，看到一半就看不下去了，浪费钱。",
    "洗澡水忽冷忽热，空调遥控器没有电，折腾了一晚上。",
    "出差住过很多次，交通方便，房间安静，一直很稳定。",
)


def close_call(rough: np.ndarray, exact: np.ndarray) -> float:
    """The distance of the best two labels under which a score is taken again.

    CLOSE_CALL times the root mean square of int8's error in the difference of two labels' log-probabilities.

    Args:
        rough: Class log-probabilities (N, C) of PROBE by int8.
        exact: The same in full precision.
    """
    error = rough - exact
    error -= error.mean(axis=1, keepdims=True)
    return CLOSE_CALL * float(np.sqrt(2 * (error**2).sum(axis=1).mean() / (error.shape[1] - 1)))


def near(scores: np.ndarray, distance: float) -> np.ndarray:
    """Rows of ``scores`` (N, C) whose best two labels are nearer than ``distance``."""
    best = np.sort(scores, axis=1)
    return np.flatnonzero(best[:, -1] - best[:, -2] < distance)
