"""The FastAPI app: routes over one batcher, wrapped in the limits and the log. Any ASGI server can run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from zhsenti import __version__
from zhsenti.artifact import WEIGHTS
from zhsenti.prediction.explain import MAX_CLAUSES, MAX_WORDS, Explanation, explain
from zhsenti.serving.access import Access, exchange
from zhsenti.serving.batcher import Batcher, Capacity
from zhsenti.serving.config import ServeConfig
from zhsenti.serving.failures import STOPPED
from zhsenti.serving.limits import Gate, Limits
from zhsenti.serving.metrics import Metrics
from zhsenti.serving.openapi import EXAMPLES, MEANING, describe, errors
from zhsenti.serving.page import add_page
from zhsenti.serving.schema import (
    Detail,
    Health,
    ModelInfo,
    Models,
    PredictAnswer,
    PredictRequest,
    Result,
    ServiceError,
    parse_request,
    request_schema,
)
from zhsenti.serving.tickets import Predictor, Ticket, costs

if TYPE_CHECKING:
    from zhsenti.prediction.predictor import Prediction

T = TypeVar("T")
PASSES = 4  # forward passes that one batch may fill: longer texts go first and short ones fill up (docs/log.md)
EXPLAINING_THREADS = 4


class Service:
    """``app`` with its layers, as one ASGI application.

    Attributes:
        app: The routes.
        batcher: The line of requests; the server stops it and asks it for its failure.
        limits: The layer that refuses; the server sets its ``draining``.
    """

    def __init__(self, app: FastAPI, batcher: Batcher, gate: Gate, metrics: Metrics) -> None:
        self.app, self.batcher = app, batcher
        self.limits = Limits(app, gate, metrics)
        self._entry = Access(self.limits, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entry(scope, receive, send)


def create_app(models: Mapping[str, Predictor], config: ServeConfig, gate: Gate, batch_tokens: int) -> Service:
    """A service of loaded models. The batcher's thread starts with the app (ASGI lifespan) and stops with it.

    Args:
        models: Predictors by name; the first one is the default.
        config: Limits of requests and of the queue.
        gate: Who gets in.
        batch_tokens: What one batch takes.
    """
    metrics = Metrics()
    batcher = Batcher(
        models,
        metrics,
        Capacity(
            max_requests=config.max_queue_requests,
            max_tokens=config.max_queue_tokens,
            batch_tokens=batch_tokens,
            wait_s=config.batch_wait_ms / 1000,
            timeout_s=config.timeout_s,
        ),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await asyncio.to_thread(batcher.stop)

    # The interactive pages of FastAPI load scripts from elsewhere: only openapi.json is offered.
    app = FastAPI(
        title="zhsenti", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    service = Service(app, batcher, gate, metrics)
    app.add_exception_handler(HTTPException, _plain_error)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(Exception, _bug)
    _add_probes(app, service, metrics)
    _add_predict(app, batcher, models, config, metrics)
    add_page(app)
    describe(app, gate.key is not None)
    return service


def _add_probes(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/livez", summary="进程活着", tags=["运行"])
    async def livez() -> Health:
        return Health(status="ok")

    @app.get("/readyz", summary="可以接收请求（已预热，没有出故障，没有在关闭）", tags=["运行"], responses=errors(503))
    async def readyz() -> Health:
        if service.limits.draining:
            raise ServiceError(503, "draining", "服务正在关闭")
        _require_warm(service.batcher)
        return Health(status="ok")

    @app.get(
        "/metrics",
        summary="Prometheus 指标",
        tags=["运行"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _require_warm(batcher: Batcher) -> None:
    if batcher.failure:
        raise ServiceError(503, *STOPPED)
    if not batcher.is_warm:
        raise ServiceError(503, "not_ready", "模型还在预热", headers={"Retry-After": "1"})


def _add_predict(
    app: FastAPI, batcher: Batcher, models: Mapping[str, Predictor], config: ServeConfig, metrics: Metrics
) -> None:
    first = next(iter(models))
    threads = ThreadPoolExecutor(EXPLAINING_THREADS, "zhsenti-explain")
    schema = request_schema(list(models), config.max_texts, any(p.task.has_aspect for p in models.values()))
    takes = {"content": {"application/json": {"schema": schema, "examples": EXAMPLES}}, "required": True}

    @app.get("/v1/models", summary="有哪些模型", tags=["预测"])
    async def list_models() -> Models:
        return Models(models=[model_info(name, predictor) for name, predictor in models.items()])

    @app.post(
        "/v1/predict",
        summary="一条或多条文本的情感",
        tags=["预测"],
        response_model=PredictAnswer,
        response_model_exclude_none=True,
        openapi_extra={"requestBody": takes},
        responses=errors(408, 413, 415, 422, 429, 500, 503, 504),
    )
    async def predict(request: Request) -> PredictAnswer:
        try:
            return await answer(request)
        except ServiceError as error:
            metrics.rejected.labels(error.code).inc()
            raise

    async def answer(request: Request) -> PredictAnswer:
        _require_json(request)
        asked = parse_request(await request.body())
        name = first if asked.model is None else asked.model
        if name not in models:
            where = Detail(loc=["body", "model"], message=f"有：{'、'.join(models)}")
            raise ServiceError(422, "unknown_model", "没有这个模型", [where])
        task, texts = models[name].task, asked.all_texts()
        _check_aspect(asked, name, task.has_aspect)
        if len(texts) > config.max_texts:
            raise ServiceError(413, "too_many_texts", f"{len(texts)} 条文本，一个请求最多 {config.max_texts} 条")
        aspects = asked.all_aspects()
        tokens = sum(costs(task, texts, aspects))
        variants = min(len(texts[0]), MAX_CLAUSES) + min(len(texts[0]), MAX_WORDS) if asked.explain else 0
        exchange(request.scope).fields.update(model=name, rows=len(texts))
        _require_warm(batcher)
        with batcher.ticket(name, tokens * (1 + variants)) as ticket:
            if asked.explain:
                job = threads.submit(_explained, batcher, ticket, texts[0], aspects[0] if aspects else None)
                prediction, explanation = await _unless_gone(request, job)
                results = [Result(**asdict(prediction), explanation=explanation)]
            else:
                predictions = await _unless_gone(request, batcher.submit(ticket, texts, aspects))
                results = [Result(**asdict(one)) for one in predictions]
        exchange(request.scope).fields["tokens"] = sum(one.tokens for one in results)
        return PredictAnswer(model=name, results=results)


def _require_json(request: Request) -> None:
    kind, _, rest = request.headers.get("content-type", "").lower().partition(";")
    charset = rest.partition("charset=")[2].strip(' "')
    if kind.strip() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise ServiceError(415, "unsupported_media_type", "Content-Type 要是 application/json，UTF-8")


def _check_aspect(asked: PredictRequest, name: str, has_aspect: bool) -> None:
    if has_aspect != (asked.aspect is not None):
        message = "这个模型要给方面" if has_aspect else "这个模型不看方面"
        where = Detail(loc=["body", "aspect"], message=message)
        raise ServiceError(422, "aspect_mismatch", f"{message}：{name}", [where])


def _explained(batcher: Batcher, ticket: Ticket, text: str, aspect: str | None) -> tuple[Prediction, Explanation]:
    """The text's prediction and its explanation; runs in a thread of its own and scores through the batcher."""
    firsts: list[Prediction] = []

    def score(texts: Sequence[str], aspects: Sequence[str] | None) -> np.ndarray:
        predictions = batcher.submit(ticket, texts, aspects).result()
        firsts.append(predictions[0])
        with np.errstate(divide="ignore"):  # log 0 is floored where it is used
            return np.log([list(one.scores.values()) for one in predictions])

    explanation = explain(text, score, aspect)  # scores the whole text first
    return firsts[0], explanation


async def _unless_gone(request: Request, job: Future[T]) -> T:
    """The job's result.

    Raises:
        ServiceError: 499 as soon as the client has gone.
    """
    answer = asyncio.wrap_future(job)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ServiceError(499, "client_gone", "客户端已断开")
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def model_info(name: str, predictor: Predictor) -> ModelInfo:
    """What ``/v1/models`` says of a model."""
    manifest, task = predictor.manifest, predictor.task
    base = manifest.base["model_id"] if manifest else getattr(getattr(predictor, "base", None), "model_id", None)
    precision = getattr(predictor, "precision", None)
    return ModelInfo(
        name=name,
        method=predictor.method_name,
        labels=list(task.labels),
        # Where a folder lies on this machine is nobody else's business.
        base=PurePath(base).name if base and PurePath(base).is_absolute() else base,
        temperature=getattr(predictor, "temperature", 1.0),
        precision=getattr(precision, "name", None),
        max_length=task.max_length,
        has_aspect=task.has_aspect,
        adapter_sha256=manifest.files.get(WEIGHTS) if manifest else None,
    )


async def _plain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "bad_request")
    message = MEANING.get(error.status_code, "请求不对")
    plain = ServiceError(error.status_code, code, message, headers=dict(error.headers or {}))
    return await _service_error(request, plain)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    body = error.body(exchange(request.scope).request_id)
    return Response(body, error.status, error.headers, media_type="application/json")


async def _bug(request: Request, error: Exception) -> Response:
    """What is answered; starlette raises ``error`` again, and the layer around logs it."""
    return await _service_error(request, ServiceError(500, "internal_error", "服务内部出错"))
