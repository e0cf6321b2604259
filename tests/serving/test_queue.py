"""The queue: batches, bounds, deadlines, clients that go away, and failures that stay with their own request."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.serving.running import SlowPredictor, error_of
from tests.waiting import until
from zhsenti.serving.batcher import WARM_UP
from zhsenti.serving.tickets import costs
from zhsenti.task import SentimentTask


def hold(running):
    """Keep the worker busy with a first request; returns the predictor whose gate lets it go."""
    predictor = running.service.batcher.predictors["demo"]
    predictor.gate.clear()
    return predictor


async def post(client, **body):
    return await client.post("/v1/predict", json=body)


async def busy(client, predictor):
    """A request that is being computed."""
    task = asyncio.create_task(post(client, text="占着"))
    await asyncio.to_thread(until, lambda: ["占着"] in predictor.seen)
    return task


def test_requests_that_wait_together_go_together_in_order_of_arrival(start):
    other = SlowPredictor()
    running = start({"demo": SlowPredictor(), "other": other}, batch_tokens=200)
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            first = await busy(client, predictor)
            jobs = [first]
            for n in range(8):  # 40 tokens each, five to a batch
                jobs.append(asyncio.create_task(post(client, text=f"{n}" * 20, model="other" if n == 3 else "demo")))
                await asyncio.to_thread(until, lambda n=n: running.service.batcher.waiting == n + 2)
            predictor.gate.set()
            return await asyncio.gather(*jobs)

    answers = asyncio.run(go())
    assert {answer.status_code for answer in answers} == {200}
    cost = costs(SentimentTask(), ["0" * 20])[0]
    assert 200 // cost == 5
    assert predictor.seen[2:] == [[f"{n}" * 20 for n in (0, 1, 2, 4, 5)], [f"{n}" * 20 for n in (6, 7)]]
    assert other.seen[1:] == [["3" * 20]]


@pytest.mark.parametrize(
    ("settings", "fits"), [({"max_queue_requests": 3}, 2), ({"max_queue_tokens": 300}, 4)], ids=["requests", "tokens"]
)
def test_a_full_queue_answers_429_and_goes_on_after(start, settings, fits):
    running = start(**settings)
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            jobs = [await busy(client, predictor)]
            text = "好" * (60 - len(SentimentTask().template))
            for n in range(fits):
                jobs.append(asyncio.create_task(post(client, text=text)))
                await asyncio.to_thread(until, lambda n=n: running.service.batcher.waiting == n + 2)
            refused = await post(client, text=text)
            predictor.gate.set()
            return refused, await asyncio.gather(*jobs), await post(client, text=text)

    refused, accepted, after = asyncio.run(go())
    assert (refused.status_code, error_of(refused)["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert {answer.status_code for answer in [*accepted, after]} == {200}
    assert running.service.batcher.waiting == 0
    assert running.service.batcher._tokens == 0


def test_a_wait_beyond_the_timeout_is_refused_at_once(start):
    running = start({"demo": SlowPredictor(0.2)}, timeout_s=0.5)
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            jobs = [await busy(client, predictor)]
            jobs.append(asyncio.create_task(post(client, texts=["好" * 100] * 20)))
            await asyncio.to_thread(until, lambda: running.service.batcher.waiting == 2)
            refused = await post(client, text="好")
            predictor.gate.set()
            await asyncio.gather(*jobs)
            return refused

    refused = asyncio.run(go())
    assert (refused.status_code, error_of(refused)["code"]) == (429, "too_slow")
    assert int(refused.headers["retry-after"]) > 1


def test_what_is_out_of_time_is_504_and_not_computed(start):
    running = start(timeout_s=0.2)
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            first = await busy(client, predictor)
            late = asyncio.create_task(post(client, text="来晚了"))
            await asyncio.sleep(0.3)
            predictor.gate.set()
            return await first, await late, await post(client, text="很好")

    first, late, after = asyncio.run(go())
    assert (first.status_code, late.status_code, after.status_code) == (200, 504, 200)
    assert error_of(late)["code"] == "timeout"
    assert ["来晚了"] not in predictor.seen


def test_a_failing_text_costs_its_own_request_only(start):
    running = start()
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            jobs = [await busy(client, predictor)]
            for n, text in enumerate(("很好", "爆炸", "很差")):
                jobs.append(asyncio.create_task(post(client, texts=[text, "不错"])))
                await asyncio.to_thread(until, lambda n=n: running.service.batcher.waiting == n + 2)
            predictor.gate.set()
            return await asyncio.gather(*jobs)

    answers = asyncio.run(go())
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert error_of(answers[2])["code"] == "model_failed"


def test_a_client_that_goes_away_is_not_computed_and_leaves_no_trace(start):
    running = start()
    predictor = hold(running)
    batcher = running.service.batcher

    def scope(headers):
        return {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/predict",
                "raw_path": b"/v1/predict", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
                "server": ("test", 80), "client": ("127.0.0.1", 1)}  # fmt: skip

    async def go():
        gone, sent = asyncio.Event(), []
        body = '{"text": "走了", "explain": EXPLAIN}'

        async def ask(explain):
            given = [body.replace("EXPLAIN", explain).encode()]

            async def receive():
                if given:
                    return {"type": "http.request", "body": given.pop(), "more_body": False}
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message):
                sent.append(message)

            await running.service(scope([(b"content-type", b"application/json")]), receive, send)

        async with running.client() as client:
            first = await busy(client, predictor)
            jobs = [asyncio.create_task(ask(explain)) for explain in ("false", "true")]
            await asyncio.to_thread(until, lambda: batcher.waiting == 3)
            gone.set()
            await asyncio.wait_for(asyncio.gather(*jobs), 5)
            assert batcher.waiting == 1
            predictor.gate.set()
            assert (await first).status_code == 200
            assert (await post(client, text="还在")).status_code == 200
        assert {message["status"] for message in sent if "status" in message} == {499}

    asyncio.run(go())
    assert predictor.seen == [[WARM_UP], ["占着"], ["还在"]]
    assert batcher._tokens == 0


def test_stopping_tells_those_who_wait(start):
    running = start()
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            first = await busy(client, predictor)
            waiting = [asyncio.create_task(post(client, text="等着", explain=explain)) for explain in (False, True)]
            await asyncio.to_thread(until, lambda: running.service.batcher.waiting == 3)
            stopping = threading.Thread(target=running.service.batcher.stop)
            stopping.start()
            answers = await asyncio.gather(*waiting)
            predictor.gate.set()
            await asyncio.to_thread(stopping.join)
            return await first, answers

    first, answers = asyncio.run(go())
    assert [answer.status_code for answer in (first, *answers)] == [503, 503, 503]


def test_a_cost_is_an_upper_bound_for_reviews_and_counts_the_reading_of_long_texts():
    task = SentimentTask()
    assert costs(task, ["好" * 10]) == [10 + len(task.template)]
    assert costs(task, ["好" * 1_000_000]) == [task.max_length + 1_000_000 // 256]
    about = SentimentTask(template="评论：{text}\n对{aspect}的情感倾向：")
    assert costs(about, ["好"], ["服务"]) == [3 + len(about.template)]


# ── a model that fails for good ───────────────────────────────────────────────────────────────────────────────────


def test_a_text_without_room_is_told_so_and_costs_its_own_request_only(start):
    running = start()
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            jobs = [await busy(client, predictor)]
            for n, body in enumerate(
                ({"text": "很好"}, {"text": "放不下"}, {"text": "放不下，也要解释", "explain": True})
            ):
                jobs.append(asyncio.create_task(post(client, **body)))
                await asyncio.to_thread(until, lambda n=n: running.service.batcher.waiting == n + 2)
            predictor.gate.set()
            return await asyncio.gather(*jobs), await client.get("/readyz")

    answers, ready = asyncio.run(go())
    assert [answer.status_code for answer in (*answers, ready)] == [200, 200, 503, 503, 200]
    for answer in answers[2:]:
        assert error_of(answer)["code"] == "out_of_memory"
        assert "内存不足" in error_of(answer)["message"]


@pytest.mark.parametrize("word", ["显卡掉了", "线程退出"])
@pytest.mark.parametrize("explain", [False, True])
def test_a_worker_that_dies_answers_all_who_wait_and_is_not_ready(start, word, explain, caplog):
    running = start(batch_tokens=1)
    predictor = hold(running)

    async def go():
        async with running.client() as client:
            jobs = [await busy(client, predictor)]
            for n, text in enumerate((f"{word}，秘密", "等着")):
                jobs.append(asyncio.create_task(post(client, text=text, explain=explain)))
                await asyncio.to_thread(until, lambda n=n: running.service.batcher.waiting == n + 2)
            predictor.gate.set()
            answers = await asyncio.wait_for(asyncio.gather(*jobs), 10)
            await asyncio.to_thread(until, lambda: running.service.batcher.failure)
            return answers, await post(client, text="后来的"), await client.get("/readyz")

    (first, *answers), late, ready = asyncio.run(go())
    assert first.status_code == 200
    for answer in (*answers, late, ready):
        assert (answer.status_code, error_of(answer)["code"]) == (503, "model_stopped")
    failure = running.service.batcher.failure
    assert ("显卡出错" in str(failure)) is (word == "显卡掉了")
    assert ("illegal memory access" in str(failure)) is (word == "显卡掉了")
    assert "秘密" not in f"{failure}{caplog.text}"
    assert [record.getMessage() for record in caplog.records].count("worker_died") == 1
    assert not running.service.batcher._worker.is_alive()


def test_a_fault_of_the_line_itself_is_seen_too(start, monkeypatch):
    running = start()
    monkeypatch.setattr(running.service.batcher, "_deliver", lambda *_: 1 / 0)

    async def go():
        async with running.client() as client:
            return await asyncio.wait_for(post(client, text="很好"), 10)

    answer = asyncio.run(go())
    assert (answer.status_code, error_of(answer)["code"]) == (503, "model_stopped")
    until(lambda: running.service.batcher.failure)
    assert "ZeroDivisionError" in str(running.service.batcher.failure)
