"""What the routes answer, and that every error has the one schema and never a word of a review."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.fakes import KeywordPredictor
from tests.serving.running import SlowPredictor, error_of, make_service
from zhsenti.prediction.explain import explain
from zhsenti.serving.limits import Gate
from zhsenti.task import SentimentTask

SECRET = "秘密酒店很好"


def call(running, method: str, path: str, **kwargs) -> httpx.Response:
    async def go() -> httpx.Response:
        async with running.client() as client:
            return await client.request(method, path, **kwargs)

    return asyncio.run(go())


def test_one_text_and_many_in_order(start):
    running = start()
    one = call(running, "POST", "/v1/predict", json={"text": "房间很好"}).json()
    assert one["model"] == "demo"
    assert one["results"][0]["label"] == "正面"
    assert set(one["results"][0]) == {"label", "confidence", "scores", "tokens", "truncated"}
    texts = [f"房间{'很好' if i % 3 else '很差'}{i}" for i in range(40)]
    many = call(running, "POST", "/v1/predict", json={"texts": texts}).json()["results"]
    expected = KeywordPredictor().predict_batch(texts)
    assert [one["scores"] for one in many] == [one.scores for one in expected]
    assert [one["tokens"] for one in many] == [len(text) for text in texts]


def test_explanation_is_that_of_the_predictor_itself(start):
    text = "房间很好，但是太吵，不过服务很好"
    answer = call(start(), "POST", "/v1/predict", json={"text": text, "explain": True}).json()["results"][0]
    expected = explain(text, KeywordPredictor().log_probs)
    for level in ("clauses", "words"):
        got, want = answer["explanation"][level], getattr(expected, level)
        assert [unit["text"] for unit in got] == [unit.text for unit in want]
        assert np.allclose([unit["effect"] for unit in got], [unit.effect for unit in want], atol=1e-4)
    assert answer["label"] == "正面"


def test_several_models_and_aspects(start):
    stars = SentimentTask(labels=("差", "中", "好"), words=("差", "中", "好"))
    about = SentimentTask(template="评论：{text}\n对{aspect}的情感倾向：")
    models = {"demo": SlowPredictor(), "stars": SlowPredictor(task=stars), "about": SlowPredictor(task=about)}
    running = start(models)
    infos = call(running, "GET", "/v1/models").json()["models"]
    assert [(info["name"], info["has_aspect"]) for info in infos] == [
        ("demo", False), ("stars", False), ("about", True)
    ]  # fmt: skip
    for name, labels in (("demo", {"负面", "正面"}), ("stars", {"差", "中", "好"})):
        answer = call(running, "POST", "/v1/predict", json={"text": "很好", "model": name}).json()
        assert answer["model"] == name
        assert set(answer["results"][0]["scores"]) == labels
    asked = {"texts": ["很好", "很差"], "model": "about"}
    for aspect in ("服务", ["服务", "房间"]):
        assert len(call(running, "POST", "/v1/predict", json={**asked, "aspect": aspect}).json()["results"]) == 2
    for wrong in (asked, {"text": "很好", "aspect": "服务"}):
        refused = call(running, "POST", "/v1/predict", json=wrong)
        assert (refused.status_code, error_of(refused)["code"]) == (422, "aspect_mismatch")
    unknown = error_of(call(running, "POST", "/v1/predict", json={"text": "很好", "model": "没有"}))
    assert unknown["code"] == "unknown_model"
    assert "demo、stars、about" in unknown["details"][0]["message"]


DEEP = "[" * 100_000 + "]" * 100_000
BODIES = [
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", "{\"text\":\"很好\"}".encode("utf-16"), b"\xef\xbb\xbf{}",
    b'{"text": NaN}', b'{"text": Infinity}', b'{"text": "a", "text": "b"}', b'{"text": "\\ud800"}',
    b'{"\\ud800": 1, "text": "a"}', b'{"text": 1}', b'{"text": null}', b'{"text": "a", "texts": ["b"]}',
    b'{"texts": []}',
    b'{"texts": ["a", 1]}', b'{"texts": "ab"}', b'{"text": ""}', b'{"text": "\\u0000"}', '{"text": "\u200b"}'.encode(),
    b'{"text": "a", "explain": "yes"}', b'{"text": "a", "explain": 1}', b'{"texts": ["a"], "explain": true}',
    b'{"text": "a", "aspect": ["x", "y"]}', b'{"text": "a", "aspect": {}}', b'{"text": "a", "model": 3}',
    b'{"text": ' + b"1" * 5000 + b"}", DEEP.encode(), b'{"text": ' + DEEP.encode() + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:24]))
def test_a_body_that_means_nothing_is_422(start, body):
    answer = call(start(), "POST", "/v1/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert error_of(answer)["code"] in ("invalid_json", "invalid_request", "invalid_text")


def test_the_place_of_a_bad_text_is_named_and_no_word_comes_back(start, caplog):
    caplog.set_level(logging.INFO)
    running = start()
    bad = {"texts": [SECRET, "  ", SECRET + "\0"], SECRET: SECRET}
    answer = call(running, "POST", "/v1/predict", json=bad)
    assert error_of(answer)["details"] == [{"loc": ["body", "…"], "message": "没有这个字段"}]
    assert SECRET not in answer.text
    del bad[SECRET]
    answer = call(running, "POST", "/v1/predict", json=bad)
    assert [one["loc"] for one in error_of(answer)["details"]] == [["body", "texts", 1], ["body", "texts", 2]]
    assert SECRET not in answer.text
    failed = call(running, "POST", "/v1/predict", json={"text": SECRET + "爆炸"})
    assert (failed.status_code, error_of(failed)["code"]) == (500, "model_failed")
    assert SECRET not in failed.text
    told = [{**record.__dict__, "fields": getattr(record, "fields", None)} for record in caplog.records]
    assert any(one["msg"] == "model_failed" and one["fields"]["error"] == "RuntimeError" for one in told)
    assert SECRET not in str(told)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/predict/", 404), ("PUT", "/v1/predict", 405), ("OPTIONS", "/livez", 405),
     ("GET", "/static/../schema.py", 404), ("GET", "/static/%2e%2e%2fschema.py", 404), ("GET", "/docs", 404)],
)  # fmt: skip
def test_wrong_addresses_and_methods(start, method, path, status):
    answer = call(start(), method, path)
    assert answer.status_code == status
    error_of(answer)
    assert (status == 405) == ("allow" in answer.headers)


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "application/json; charset=gbk"])
def test_other_content_types_are_415(start, kind):
    answer = call(start(), "POST", "/v1/predict", content=b'{"text": "a"}', headers={"content-type": kind})
    assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_media_type")


def test_headers_that_keep_a_browser_in_its_place(start):
    running = start()
    for path in ("/", "/livez", "/openapi.json", "/nowhere"):
        headers = call(running, "GET", path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert call(running, "GET", "/livez", headers={"X-Request-ID": "a.B_1-"}).headers["x-request-id"] == "a.B_1-"
    for wild in ("a b", "x" * 65, "<script>", ""):
        assert len(call(running, "GET", "/livez", headers={"X-Request-ID": wild}).headers["x-request-id"]) == 32


def test_the_page_comes_with_its_own_types_and_is_asked_for_again_cheaply(tmp_path, monkeypatch):
    for name in ("index.html", "app.js", "style.css", "notes.txt"):
        (tmp_path / name).write_text(f"这是 {name}", encoding="utf-8")
    monkeypatch.setattr("zhsenti.serving.page.STATIC", tmp_path)
    client = TestClient(make_service(), client=("127.0.0.1", 1))
    types = {"/": "text/html", "/static/app.js": "text/javascript", "/static/style.css": "text/css"}
    for path, kind in types.items():
        answer = client.get(path)
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert client.get(path, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert client.get("/static/notes.txt").status_code == 404


def test_ready_only_after_every_model_has_warmed_up(start):
    slow = SlowPredictor()
    slow.gate.clear()
    running = start({"demo": SlowPredictor(), "slow": slow}, warm=False)
    for method, path, body in (("GET", "/readyz", None), ("POST", "/v1/predict", {"text": "很好"})):
        answer = call(running, method, path, json=body)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "not_ready")
    assert call(running, "GET", "/livez").status_code == 200
    slow.gate.set()
    running.warm()
    assert call(running, "GET", "/readyz").json() == {"status": "ok"}
    running.service.limits.draining = True
    for method, path, body in (("GET", "/readyz", None), ("POST", "/v1/predict", {"text": "很好"})):
        answer = call(running, method, path, json=body)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "draining")


def test_metrics_have_base_units_and_count(start):
    running = start()
    call(running, "POST", "/v1/predict", json={"texts": ["很好", "很差", "很好"]})
    call(running, "GET", f"/{SECRET}")
    call(running, "POST", "/v1/predict", json={"text": ""})
    lines = call(running, "GET", "/metrics").text
    for line in (
        'zhsenti_http_request_duration_seconds_count{route="/v1/predict",status="200"} 1.0',
        'zhsenti_http_request_duration_seconds_count{route="unmatched",status="404"} 1.0',
        "zhsenti_http_requests_in_progress 1.0", "zhsenti_queue_requests 0.0", "zhsenti_queue_tokens 0.0",
        "zhsenti_queue_wait_seconds_count 3.0", "zhsenti_batch_rows_sum 3.0",
        "zhsenti_batch_duration_seconds_count 1.0",
        'zhsenti_predictions_total{label="正面",model="demo"} 2.0',
        'zhsenti_rejected_total{reason="invalid_text"} 1.0', 'zhsenti_build_info{version="',
        "zhsenti_batch_tokens_bucket",
    ):  # fmt: skip
        assert line in lines, line
    assert SECRET not in lines


def test_hosts_and_keys(start):
    gate = Gate(frozenset({"localhost", "[::1]"}), b"0123456789abcdef", 1 << 20)
    running = start(gate=gate)
    body, host = {"text": "很好"}, {"host": "localhost:8000"}
    rebound = call(running, "GET", "/livez", headers={"host": "evil.example"})
    assert (rebound.status_code, error_of(rebound)["code"]) == (403, "host_not_allowed")
    for open_path in ("/livez", "/readyz"):
        assert call(running, "GET", open_path, headers={"host": "[::1]:80"}).status_code == 200
    for given in ({}, {"x-api-key": "0123456789abcdeF"}, {"authorization": "Basic 0123456789abcdef"},
                  {"authorization": "Bearer"}, {"authorization": "Bearer \xe9"}, {"x-api-key": ""}):  # fmt: skip
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nowhere"):
            encoded = {key: value.encode("latin-1") for key, value in given.items()}
            assert call(running, "GET", path, headers={**host, **encoded}).status_code == 401
        refused = call(running, "POST", "/v1/predict", json=body, headers={**host, **encoded})
        assert (refused.status_code, error_of(refused)["code"]) == (401, "unauthorized")
    for given in ({"x-api-key": "0123456789abcdef"}, {"authorization": "bearer 0123456789abcdef"}):
        assert call(running, "POST", "/v1/predict", json=body, headers={**host, **given}).status_code == 200


def test_bodies_and_requests_that_are_too_large_say_the_limit(start):
    running = start(gate=Gate(None, None, 20_000), max_texts=3, max_queue_tokens=400)
    for body, code, limit in (
        ({"text": "好" * 9000}, "body_too_large", "19 KB"),
        ({"texts": ["好"] * 4}, "too_many_texts", "3"),
        ({"texts": ["好" * 200] * 2}, "too_long", "400"),
        ({"text": "很好，" * 20, "explain": True}, "too_long", "400"),
    ):
        answer = call(running, "POST", "/v1/predict", json=body)
        assert (answer.status_code, error_of(answer)["code"]) == (413, code)
        assert limit in error_of(answer)["message"]


def test_a_bug_is_a_500_without_its_words(start, monkeypatch, caplog):
    running = start()
    monkeypatch.setattr(running.service.batcher, "ticket", lambda *_: 1 / 0)
    answer = call(running, "POST", "/v1/predict", json={"text": SECRET})
    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
    assert "ZeroDivisionError" not in answer.text
    fields = [record.fields for record in caplog.records if record.getMessage() == "internal_error"]
    assert fields[0]["error"] == "ZeroDivisionError"
    assert fields[0]["request_id"] == answer.json()["request_id"]


def test_openapi_examples_are_answered(start):
    running = start()
    schema = json.loads(call(running, "GET", "/openapi.json").text)
    content = schema["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert len(content["examples"]) == 3
    for example in content["examples"].values():
        assert call(running, "POST", "/v1/predict", json=example["value"]).status_code == 200
    assert set(schema["paths"]["/v1/predict"]["post"]["responses"]) >= {"200", "413", "415", "422", "429", "503", "504"}
