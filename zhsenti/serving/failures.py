"""What is said of a model that fails: to the request that met it, to those that wait, and by the process as it ends."""

from __future__ import annotations

from zhsenti.core.errors import MemoryShortError, ModelError, ZhsentiError, first_line
from zhsenti.models.failures import is_device_lost
from zhsenti.serving.schema import ServiceError

STOPPED = ("model_stopped", "模型出了故障，服务即将结束：等它重新启动后再试")  # code and words, after a worker's death
_DOCTOR = "zhsenti doctor 检查这台机器。"


def to_request(error: Exception) -> ServiceError:
    """What a request is told that the model failed on."""
    if isinstance(error, MemoryShortError):
        return ServiceError(503, "out_of_memory", "服务端内存不足，算不出这个请求：请稍后再试，或请管理员腾出内存")
    return ServiceError(500, "model_failed", "模型算不出这个请求；服务的日志里有原因")


def of_warm_up(error: BaseException) -> ModelError:
    """Why the service never was ready."""
    if isinstance(error, ModelError):
        return error
    return ModelError("模型预热失败", found=first_line(error), todo=_DOCTOR)


def of_worker(error: BaseException) -> ModelError:
    """Why the service ends. Errors may quote a review: only a lost GPU's words are said, of others only the kind."""
    if is_device_lost(error):
        return ModelError(
            "显卡出错，这个进程不能再用它计算，服务已结束",
            found=error.found if isinstance(error, ZhsentiError) else first_line(error),
            todo=f"重新启动服务（systemd、容器会自己做）；再发生就用 {_DOCTOR}",
        )
    return ModelError(
        "计算的线程出错，服务已结束",
        found=type(error).__name__,
        todo="重新启动服务，并把日志里的 worker_died 报告给我们。",
    )
