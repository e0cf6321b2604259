"""``zhsenti serve`` before it serves: settings it refuses, names it gives, weights it shares; and on real models."""

from __future__ import annotations

import gc
import json
import shlex
import socket
import subprocess
import sys
import weakref

import httpx
import pytest

from tests.serving.running import ROOT, SlowPredictor, ask, make_service
from tests.waiting import until
from zhsenti.core.errors import ConfigError, ModelError
from zhsenti.core.hashing import file_sha256
from zhsenti.serving import server
from zhsenti.serving.command import _curl, bind, is_loopback, load_service, main, make_gate, model_names
from zhsenti.serving.config import ServeConfig
from zhsenti.serving.limits import Gate

KEY = "0123456789abcdef"


def test_other_addresses_need_a_key():
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.invalid"):
        with pytest.raises(ConfigError, match="必须有 API key"):
            make_gate(ServeConfig(host=host), None)
        gate = make_gate(ServeConfig(host=host), KEY)
        assert (gate.key, gate.hosts) == (KEY.encode(), None)
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        assert is_loopback(host)
        gate = make_gate(ServeConfig(host=host, allowed_hosts="Demo.local:80, a"), None)
        assert gate.key is None
        assert gate.hosts >= {"localhost", "127.0.0.1", "[::1]", "demo.local", "a"}


@pytest.mark.parametrize("key", ["", "short", "x" * 15, "sixteen letters!!", "密" * 16, "x" * 5000])
def test_keys_that_are_none(key, tmp_path):
    path = tmp_path / "key"
    path.write_text(key + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="API key 不能用") as caught:
        make_gate(ServeConfig(api_key_file=str(path)), KEY)
    assert not key or key not in str(caught.value).replace(str(path), "")
    with pytest.raises(ConfigError, match="ZHSENTI_API_KEY"):
        make_gate(ServeConfig(), key)


def test_a_key_file_beats_the_variable_and_must_be_there(tmp_path):
    (tmp_path / "key").write_text(f"{KEY}-file\n")
    assert make_gate(ServeConfig(api_key_file=str(tmp_path / "key")), KEY).key == f"{KEY}-file".encode()
    with pytest.raises(ConfigError, match="读不了"):
        make_gate(ServeConfig(api_key_file=str(tmp_path / "none")), KEY)


def test_a_taken_port_is_one_message_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"不能在 .* 的端口 .* 上监听") as caught:
            main(["--port", str(taken.getsockname()[1]), "--model_path", "/nowhere"])
    assert "--port" in caught.value.todo
    with pytest.raises(ConfigError, match="不能在"):
        bind("no.such.host.invalid", 0)
    with bind("127.0.0.1", 0) as free:
        assert free.getsockname()[1] > 0


def test_models_are_called_by_their_folders(tmp_path):
    paths = ["a/lora_adapter", "b/lora_adapter/", "c/a", "a/lora_adapter", "a-2"]
    assert model_names([str(tmp_path / path) for path in paths]) == ["a", "b", "a-2", "a-3", "a-2-2"]


@pytest.mark.parametrize(
    ("key_file", "header"),
    [(None, "Authorization: Bearer $ZHSENTI_API_KEY"), ("my key.txt", "Authorization: Bearer $(cat 'my key.txt')")],
)
def test_the_line_to_type_names_where_the_key_is_and_not_the_key(key_file, header):
    gate = Gate(None, KEY.encode(), 1 << 20)
    line = _curl("http://127.0.0.1:8000", ServeConfig(api_key_file=key_file), gate)
    words = shlex.split(line)
    assert words[:4] == ["curl", "http://127.0.0.1:8000/v1/predict", "-H", header]
    assert list(json.loads(words[-1])) == ["text"]
    assert KEY not in line


def test_the_line_to_type_gets_in(tmp_path, monkeypatch):
    """By the name that the service allows, where the address is none, and with the key wherever its file is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my key").write_text(KEY)
    config = ServeConfig(host="0.0.0.0", allowed_hosts="example.com, b.example", api_key_file="~/my key")
    gate = make_gate(config, None)
    line = _curl("http://0.0.0.0:8000", config, gate)
    assert shlex.split(line)[2:4] == ["-H", "Host: b.example"]
    echoed = subprocess.run(["sh", "-c", line.replace("curl", "printf '%s\\n'", 1)], capture_output=True, text=True)
    assert f"Authorization: Bearer {KEY}" in echoed.stdout.splitlines()
    named = _curl("http://example.com:8000", config, gate)
    assert "Host:" not in named
    for host in ("127.0.0.1", "::1", "127.0.0.9"):
        config = ServeConfig(host=host, allowed_hosts="example.com")
        address = f"http://[{host}]:80" if ":" in host else f"http://{host}:80"
        assert "Host:" not in _curl(address, config, make_gate(config, None))


def test_every_folder_is_opened_once(adapters, monkeypatch):
    """Weights are files of gigabytes: each is hashed once."""
    hashed = []
    monkeypatch.setattr("zhsenti.artifact.file_sha256", lambda path: hashed.append(path) or file_sha256(path))
    load_service(ServeConfig(model_path=[str(folder) for folder in adapters]), Gate(None, None, 1 << 20))
    assert len(hashed) == len(set(hashed)) == 4  # two adapters with two files each


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_adapters_on_one_base_share_its_weights_and_nothing_else(adapters, precision):
    from zhsenti.prediction.predictor import SentimentPredictor

    texts = ["房间很好", "太吵了，不会再来"]

    def alone(folder):
        predictor = SentimentPredictor.from_folder(folder, precision=precision)
        scores = predictor.log_probs(texts)
        seen = weakref.ref(next(predictor._scorer.parameters()))
        del predictor
        gc.collect()
        assert seen() is None, "the weights outlive their last user"
        return scores

    apart = [alone(folder) for folder in adapters]
    both = [SentimentPredictor.from_folder(folder, precision=precision) for folder in adapters]
    shared = [
        {p.data_ptr() for name, p in one._scorer.named_parameters() if "lora" not in name and "score" not in name}
        for one in both
    ]
    assert len(shared[0]) > 20
    assert shared[0] == shared[1]
    together = [one.log_probs(texts) for one in both]
    assert all((one == other).all() for one, other in zip(apart, together, strict=True))
    assert (together[0] != together[1]).any()
    del both[0]
    gc.collect()
    assert (both[0].log_probs(texts) == apart[1]).all()


def test_the_command_serves_several_adapters(adapters, tmp_path):
    command = [sys.executable, "-m", "zhsenti", "serve", "--port", "0"]
    for folder in adapters:
        command += ["--model_path", str(folder)]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stderr=stream)
    try:
        until(lambda: "API key：不要" in log.read_text(encoding="utf-8"), 60)
        address = log.read_text(encoding="utf-8").split("地址 ")[1].split()[0]
        with httpx.Client(base_url=address, timeout=20, transport=httpx.HTTPTransport(retries=5)) as client:
            until(lambda: client.get("/readyz").status_code == 200, 60)
            names = [one["name"] for one in client.get("/v1/models").json()["models"]]
            assert names == ["run0", "run1"]
            scores = [
                client.post("/v1/predict", json={"text": "很好", "model": name}).json()["results"][0]["scores"]
                for name in names
            ]
            assert scores[0] != scores[1]
        process.terminate()
        assert process.wait(20) == 0
        before, after = log.read_text(encoding="utf-8").split("下一步：")
        asked, *records = after.splitlines()
        assert f"{address}/v1/predict" in asked
        assert "API key：不要" in before
        assert [json.loads(line)["event"] for line in records][-1] == "stopped"  # JSON lines and nothing else
    finally:
        process.kill()
        process.wait()


def test_smaller_passes_are_a_line_of_the_log(adapters, monkeypatch, capsys, caplog):
    """Standard error holds JSON lines alone once the service runs."""
    import torch

    from zhsenti.methods.base import Scorer

    service = load_service(ServeConfig(model_path=[str(adapters[0])]), Gate(None, None, 1 << 20))
    capsys.readouterr()
    forward = Scorer.forward

    def limited(scorer, trie, *args, **kwargs):
        if len(trie.reads) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(scorer, trie, *args, **kwargs)

    monkeypatch.setattr(Scorer, "forward", limited)
    (predictor,) = service.batcher.predictors.values()
    assert len(predictor.predict_batch(["房间很好"] * 40)) == 40
    (record,) = (one for one in caplog.records if one.getMessage() == "smaller_passes")
    assert "内存不足" in record.fields["message"]
    assert not capsys.readouterr().err


def test_a_model_that_fails_its_warm_up_ends_the_server(monkeypatch):
    def fail():
        raise RuntimeError("no kernel image")

    predictor = SlowPredictor()
    predictor.after_call = fail
    monkeypatch.setattr(server, "log_as_json", lambda: None)  # pytest keeps its own
    with bind("127.0.0.1", 0) as listener, pytest.raises(ModelError, match="no kernel image"):
        server.run(make_service({"demo": predictor}), ServeConfig(), listener)


@pytest.mark.real
def test_batched_answers_are_those_of_the_core(real_model):
    from zhsenti.prediction.predictor import SentimentPredictor

    predictor = SentimentPredictor.from_base(str(real_model))
    texts = [
        f"酒店第{n}次住，{'房间很好，早餐也丰富' if n % 2 else '太吵了，服务员爱理不理'}。" * (1 + n % 3)
        for n in range(12)
    ]
    expected = predictor.predict_batch(texts)
    answers = ask(make_service({"demo": predictor}), [{"text": text} for text in texts])
    for (got,), want in zip(answers, expected, strict=True):
        assert got["label"] == want.label
        assert got["confidence"] == pytest.approx(want.confidence, abs=0.02)  # bfloat16, other companions
        assert got["tokens"] == want.tokens
