"""``zhsenti serve``'s own server around a slow fake: python -m tests.serving.fake_server '{"seconds": 0.2}'."""

from __future__ import annotations

import json
import sys

from tests.serving.running import SlowPredictor, make_service
from zhsenti.core.errors import exit_on_error
from zhsenti.serving import server
from zhsenti.serving.command import bind, make_gate
from zhsenti.serving.config import ServeConfig

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    server.HEAD_S = options.pop("head_s", server.HEAD_S)
    predictor = SlowPredictor(options.pop("seconds", 0.0))
    config = ServeConfig(port=0, batch_wait_ms=1.0, **options)
    service = make_service({"demo": predictor}, make_gate(config, None), 64, **{"batch_wait_ms": 1.0, **options})
    with bind(config.host, config.port) as listener:
        print(listener.getsockname()[1], flush=True)
        sys.exit(exit_on_error(lambda _: server.run(service, config, listener)))
