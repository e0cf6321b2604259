"""What an error of torch means: memory ran out, or the GPU is lost to this process.

The signs are texts, because CUDA's libraries have no error types of their own in Python: torch raises RuntimeError with
the name of the status in it (ATen/cuda/Exceptions.h).
"""

from __future__ import annotations

import errno
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from zhsenti.core.errors import DeviceLostError, MemoryShortError, first_line

# CUDNN_STATUS_INTERNAL_ERROR is not among them. It once stood for a library that found no room (pytorch#81620); cuDNN 9
# has statuses for that, which end in ALLOCATION_FAILED.
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA's and its driver's
    "OUT_OF_MEMORY",  # NVRTC's
    "ALLOC_FAILED",  # cuBLAS and cuSOLVER, where a library's own handle found no room (pytorch#128601)
    "ALLOCATION_FAILED",  # cuDNN
    "CUBLAS_STATUS_NOT_INITIALIZED",  # as ALLOC_FAILED, when the context of cublasCreate finds no room
    "can't allocate memory",  # torch on the CPU
    "Cannot allocate memory",  # the operating system, for a mapped file
    "not enough memory",  # torch on Windows
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: CUDA's own error, Python's, or a library's RuntimeError."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, (RuntimeError, OSError)) and bool(memory_sign(str(error)))


def memory_sign(text: str) -> str:
    """The line of what a library says that means that memory ran out, or ""."""
    return next((line for line in text.splitlines() if any(sign in line for sign in _OUT_OF_MEMORY)), "").strip()


def is_device_lost(error: BaseException) -> bool:
    """Whether the GPU computes nothing more for this process.

    After an illegal memory access, a failed assertion in a kernel and a few others, every later call fails with the
    same error until the process ends. Other errors, such as an odd shape's, pass with their call. The texts do not say
    which is which, the GPU does: it is asked whether it still answers. Only where there is none to ask does the text
    decide.
    """
    if isinstance(error, DeviceLostError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    torch = sys.modules.get("torch")  # a process that has not imported it uses no GPU
    if torch is None or not torch.cuda.is_initialized():
        text = str(error)
        return ("CUDA error: " in text or "CUDA driver error: " in text) and not memory_sign(text)
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def is_machines_fault(error: BaseException) -> bool:
    """Whether loading failed for want of memory, or of a GPU that works: another model folder would not mend it."""
    return is_out_of_memory(error) or is_device_lost(error)


def free_cached_memory() -> None:
    """Give memory back that no tensor uses any more. To be called where no error that holds tensors is alive.

    Raises:
        RuntimeError: The GPU is lost: an error that looked like one of memory was an earlier kernel's.
    """
    import torch

    gc.collect()  # first: the cache keeps what a cycle of dead objects holds
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


@contextmanager
def naming_device_loss() -> Iterator[None]:
    """Inside, a model computes.

    Raises:
        DeviceLostError: In place of torch's error, where the GPU is lost.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_device_lost(error):
            raise
        raise DeviceLostError(
            "显卡出错，这个进程不能再用它计算",
            found=first_line(error),
            todo="重新运行；再发生就用 zhsenti doctor 检查显卡和驱动。",
        ) from error


@contextmanager
def naming_load_failures(todo: str) -> Iterator[None]:
    """Inside, a model is loaded.

    Args:
        todo: What helps where memory is short (Chinese).

    Raises:
        MemoryShortError: In place of a library's error, where memory ran out.
        DeviceLostError: The same, where the GPU is lost.
    """
    try:
        with naming_device_loss():
            yield
    except (RuntimeError, OSError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortError("内存不足，放不下模型", found=first_line(error), todo=todo) from error


@contextmanager
def conversion_errors() -> Iterator[list[str]]:
    """What transformers reports of errors in a weight's conversion, to 4 bits for one; nothing of it is shown.

    It catches such an error, whatever it is, writes it into its log, and raises a RuntimeError at the end that only
    points there (core_model_loading.log_conversion_errors, utils.loading_report).
    """
    texts: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    log, keep = logging.getLogger("transformers.modeling_utils"), Keep()
    level, propagates = log.level, log.propagate
    log.addHandler(keep)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield texts
    finally:
        log.removeHandler(keep)
        log.setLevel(level)
        log.propagate = propagates
