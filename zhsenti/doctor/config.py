"""The flags of ``zhsenti doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option


@dataclass
class DoctorConfig:
    """``zhsenti doctor``."""

    offline: bool = option(False, "不查网络（各源能否连上）")
    json: bool = option(False, "在标准输出上只输出一个 JSON 对象")
