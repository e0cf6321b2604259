"""The same app on Ray Serve, one copy a replica (``pip install zhsenti[ray]``).

    serve run zhsenti.serving.ray_serve:app model_path=./experiments/…/lora_adapter num_replicas=4

Arguments are those of ``zhsenti serve`` that concern models, queue and requests, and num_replicas, num_cpus, num_gpus a
replica. Ray's proxy listens, so ``host`` here only says who may ask: where ``serve start`` opens another address than
127.0.0.1, give the same one, and a key (``api_key_file`` or ZHSENTI_API_KEY).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ray import serve

from zhsenti.core.errors import ConfigError
from zhsenti.core.flags import parse
from zhsenti.serving.command import KEY_VARIABLE, load_service, make_gate
from zhsenti.serving.config import ServeConfig

if TYPE_CHECKING:
    from zhsenti.serving.app import Service

RESOURCES = ("num_replicas", "num_cpus", "num_gpus")


@serve.deployment
@serve.ingress()
class Replica:
    """Loads its own models; Ray asks it for the app once it is built."""

    def __init__(self, config: ServeConfig, key: str | None) -> None:
        self.service = load_service(config, make_gate(config, key))

    def __serve_build_asgi_app__(self) -> Service:
        return self.service

    def check_health(self) -> None:
        """Ray replaces a replica whose model fails its warm-up, or whose worker has died."""
        if self.service.batcher.failure:
            raise self.service.batcher.failure


def app(args: dict[str, str]) -> serve.Application:
    """What ``serve run`` deploys.

    Args:
        args: The words after the app's name, as name and value.

    Raises:
        ConfigError: ``zhsenti serve`` would refuse them.
    """
    resources = {name: args[name] for name in RESOURCES if name in args}
    flags = [word for name, value in args.items() if name not in RESOURCES for word in (f"--{name}", str(value))]
    config, _ = parse(ServeConfig, flags, "Ray Serve")
    key = os.environ.get(KEY_VARIABLE)  # the replicas' environment is another one
    make_gate(config, key)
    try:
        replicas = int(resources.get("num_replicas", 1))
        needs = {name: float(resources[name]) for name in RESOURCES[1:] if name in resources}
    except ValueError as error:
        raise ConfigError("num_replicas、num_cpus、num_gpus 要是数", found=str(resources)) from error
    options: Any = Replica
    return options.options(
        num_replicas=replicas, max_ongoing_requests=2 * config.max_queue_requests, ray_actor_options=needs
    ).bind(config, key)
