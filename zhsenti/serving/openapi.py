"""openapi.json: what the routes say of themselves, and what every one of them may answer besides."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from zhsenti.serving.config import EXAMPLE_TEXT
from zhsenti.serving.schema import ErrorAnswer

EXAMPLES = {
    "one": {"summary": "一条", "value": {"text": EXAMPLE_TEXT}},
    "many": {"summary": "多条", "value": {"texts": ["物流很快，包装完好。", "用了两天就坏了，非常失望。"]}},
    "explained": {"summary": "说明依据", "value": {"text": "位置很好，但是隔音太差。", "explain": True}},
}
MEANING = {
    400: "HTTP 请求不合法",
    401: "没有 API key，或不对",
    403: "Host 请求头不在允许之列，或服务没有 key 而请求来自别的机器",
    404: "没有这个地址",
    405: "这个地址不接受这种方法",
    408: "请求体发得太慢",
    413: "请求体太大，文本太多，或文本太长",
    415: "Content-Type 不是 application/json",
    422: "请求的内容不对",
    429: "排队的请求已满，Retry-After 秒后再试",
    500: "模型算不出，或服务内部出错",
    503: "还没有预热好，正在关闭，内存不足，或模型出了故障",
    504: "等到了时限还没有轮到",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route says of the errors that it may answer with."""
    return {status: {"model": ErrorAnswer, "description": MEANING[status]} for status in statuses}


def describe(app: FastAPI, needs_key: bool) -> None:
    """Have ``app`` say what the layers around it may answer, and the key where one is needed."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            description = "中文情感分类。所有错误都是 ErrorAnswer；响应头 X-Request-ID 与日志对得上。"
            schema = get_openapi(title=app.title, version=app.version, description=description, routes=app.routes)
            error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
            for path, methods in schema["paths"].items():
                for operation in methods.values():
                    for status in (400, 403, 405, 413, 408, 500):
                        answer = {"description": MEANING[status], "content": error}
                        operation["responses"].setdefault(str(status), answer)
                    if needs_key and path not in ("/livez", "/readyz"):
                        operation["responses"]["401"] = {"description": MEANING[401], "content": error}
                        operation["security"] = [{"bearer": []}]
            if needs_key:
                key = {"type": "http", "scheme": "bearer", "description": "也可以用请求头 X-API-Key"}
                schema["components"]["securitySchemes"] = {"bearer": key}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
