"""Is this machine logged in to Weights & Biases? Asked before training and by ``zhsenti doctor``; needs no library."""

from __future__ import annotations

import netrc
import os
from urllib.parse import urlparse


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
