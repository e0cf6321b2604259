"""TensorBoard always, Weights & Biases when logged in; neither may ask, print noise or fail the run."""

from __future__ import annotations

import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from transformers import TrainerCallback


def trackers(output_dir: Path, project: str, run_name: str | None, say: Callable[[str], None]) -> list[TrainerCallback]:
    """Trainer callbacks for the trackers that are available; what is not is said once, in Chinese."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback, WandbCallback

    callbacks: list[TrainerCallback] = [TensorBoardCallback(SummaryWriter(str(output_dir / "tensorboard")))]
    if wandb_logged_in() and _start_wandb(output_dir, project, run_name, say):
        callbacks.append(WandbCallback())
    return callbacks


def wandb_logged_in() -> bool:
    """True when a key is set (WANDB_API_KEY, or the netrc that ``wandb login`` writes) and W&B is not disabled."""
    if os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _start_wandb(output_dir: Path, project: str, run_name: str | None, say: Callable[[str], None]) -> bool:
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb

        options: dict[str, Any] = {"project": project, "name": run_name, "dir": str(output_dir)}
        wandb.init(**options, settings=wandb.Settings(init_timeout=20, silent=True))
    except Exception as error:  # a tracker's failure of any kind must not cost the run
        say(f"W&B 不可用，本次不同步（{type(error).__name__}）；训练不受影响。")
        return False
    say(f"W&B：同步到项目 {project}")
    return True
