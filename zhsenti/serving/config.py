"""The flags and YAML keys of ``zhsenti serve``."""

from __future__ import annotations

from dataclasses import dataclass

from zhsenti.core.flags import option
from zhsenti.methods import DEFAULT_ADAPTER
from zhsenti.models.precision import PRECISION_HELP, SCORING_PRECISIONS

EXAMPLES = (
    "zhsenti serve",
    "zhsenti serve --port 8080 --precision int8",
    "zhsenti serve --host 0.0.0.0 --api_key_file key.txt",
)
EXAMPLE_TEXT = "房间干净，服务热情，下次还会住。"  # a request's text wherever one is shown


@dataclass
class ServeConfig:
    """``zhsenti serve``."""

    model_path: list[str] = option(
        [DEFAULT_ADAPTER], "适配器文件夹；同一基座的权重只占一份内存", group="模型", metavar="文件夹"
    )
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）", metavar="名称或文件夹")
    precision: str = option("auto", PRECISION_HELP, choices=SCORING_PRECISIONS)
    host: str = option("127.0.0.1", "监听的地址；不是本机回环时必须有 API key", group="谁能访问", metavar="地址")
    port: int = option(8000, "端口，0 为任选一个空的", low=0, high=65535)
    api_key_file: str | None = option(None, "存放 API key 的文件（或环境变量 ZHSENTI_API_KEY）", metavar="文件")
    allowed_hosts: str = option("", "另外允许的 Host 请求头，逗号分隔（回环地址上防 DNS 重绑定）", metavar="主机名")
    max_texts: int = option(256, "一个请求最多几条文本，超过答 413", group="每个请求", low=1, high=100_000)
    max_body_kb: int = option(1024, "请求体最多几 KB，超过答 413", low=1, high=1_000_000)
    timeout_s: float = option(60.0, "一个请求最多等几秒；预计等不到的立刻答 429", metavar="秒", above=0, high=3600)
    max_queue_requests: int = option(512, "最多几个请求在排队，满了答 429", group="排队和批次", low=1, high=1_000_000)
    max_queue_tokens: int = option(32_768, "排队的文本最多几个 token，满了答 429", low=256, high=1_000_000_000)
    batch_tokens: int = option(0, "一批最多从队列里取几个 token（估计），0 为按设备定", low=0, high=10_000_000)
    batch_wait_ms: float = option(5.0, "凑一批最多等几毫秒", metavar="毫秒", low=0, high=1000)
    drain_s: float = option(
        60.0, "收到 SIGTERM 后最多等几秒，让收下的请求答完", group="停止", metavar="秒", above=0, high=3600
    )
