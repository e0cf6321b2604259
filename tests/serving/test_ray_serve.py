"""The same app on Ray Serve."""

from __future__ import annotations

import httpx
import pytest

from tests.waiting import until
from zhsenti.core.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


def test_arguments_are_those_of_zhsenti_serve():
    from zhsenti.serving.ray_serve import app

    assert app({"model_path": "x", "num_replicas": "3", "num_cpus": "2"}) is not None
    for wrong in ({"model_paht": "x"}, {"num_replicas": "many"}, {"host": "0.0.0.0"}, {"port": "-1"}):
        with pytest.raises(ConfigError):
            app({"model_path": "x", **wrong})


@pytest.mark.nightly  # starting a cluster takes a quarter of a minute
def test_a_cluster_answers_as_the_core_does(adapters):
    import ray
    from ray import serve

    from zhsenti.prediction.predictor import SentimentPredictor
    from zhsenti.serving.ray_serve import app

    ray.init(num_cpus=2, include_dashboard=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": 8457})
        serve.run(app({"model_path": str(adapters[0]), "num_replicas": "2", "num_cpus": "0.5"}))
        url = "http://127.0.0.1:8457"
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200, 30)
        want = SentimentPredictor.from_folder(adapters[0]).predict("房间很好")
        for _ in range(6):
            got = httpx.post(f"{url}/v1/predict", json={"text": "房间很好"}, timeout=30).json()["results"][0]
            assert got["scores"] == pytest.approx(want.scores, abs=1e-5)
        assert httpx.post(f"{url}/v1/predict", json={}).json()["error"]["code"] == "invalid_request"
    finally:
        serve.shutdown()
        ray.shutdown()
