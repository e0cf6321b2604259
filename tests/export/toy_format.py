"""An export format as a stranger would write it, outside the package: the weights in one NumPy archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zhsenti.core.errors import ConfigError
from zhsenti.export.base import Format, Reloaded
from zhsenti.export.network import transformers_score
from zhsenti.methods.base import Method

MODEL = "model.npz"


class Npz(Format):
    """``model.npz`` beside transformers' config.json."""

    name = "npz"
    dtypes = ("fp64", "fp32")
    default_dtype = "fp64"
    usage = 'numpy.load("{folder}/model.npz")'

    def refuse(self, manifest: Any, method: type[Method]) -> None:
        super().refuse(manifest, method)
        if not method.has_lm_head:
            raise ConfigError(f"{method.title}不能导出成 npz")

    def room(self, dtype: str) -> float:
        return 8.0 if dtype == "fp64" else super().room(dtype)

    def write(self, method: Method, network: Any, folder: Path, dtype: str) -> None:
        number = {"fp64": np.float64, "fp32": np.float32}[dtype]
        np.savez(folder / MODEL, **{name: x.numpy().astype(number) for name, x in network.state_dict().items()})
        network.config.save_pretrained(folder)

    def load(self, method: Method, folder: Path) -> Reloaded:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        with np.load(folder / MODEL) as weights:
            network.load_state_dict({name: torch.from_numpy(weights[name]).float() for name in weights})
        return Reloaded(f"numpy {np.__version__}", transformers_score(method, network))


NPZ = Npz()
