"""What goes over the wire: requests, answers, errors. Texts of requests never come back in an error or a log."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from zhsenti.data.text import MAX_TEXT, text_fault
from zhsenti.methods import DEFAULT
from zhsenti.prediction.explain import Explanation
from zhsenti.serving.config import EXAMPLE_TEXT

MAX_DETAILS = 256


class ServiceError(Exception):
    """An answer other than 200.

    Attributes:
        status: The HTTP status.
        code: What it is, for programs.
        message: The same for people (Chinese).
        details: What is wrong where in the request.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Sequence[Detail] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message
        self.details, self.headers = list(details), headers or {}

    def body(self, request_id: str) -> bytes:
        """The answer's JSON, an ``ErrorAnswer``."""
        error = ErrorBody(code=self.code, message=self.message, details=self.details)
        return ErrorAnswer(error=error, request_id=request_id).model_dump_json().encode()


# A docstring of one of these models stands in openapi.json: it is Chinese, or there is none.


class Detail(BaseModel):
    loc: list[str | int] = Field(description="请求里的位置", examples=[["body", "texts", 3]])
    message: str = Field(description="那里有什么不对", examples=["文本是空的"])


class ErrorBody(BaseModel):
    code: str = Field(description="给程序看的代码", examples=["queue_full"])
    message: str = Field(description="给人看的话", examples=["排队的请求已满"])
    details: list[Detail] = Field(description="请求里哪些地方不对；与请求内容无关的错误没有")


class ErrorAnswer(BaseModel):
    """所有错误都是这个样子。"""

    error: ErrorBody
    request_id: str = Field(description="与响应头 X-Request-ID 相同，日志里可以查到")


class PredictRequest(BaseModel):
    """`text` 与 `texts` 恰好给一个。"""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, description="一条文本，至少有一个看得见的字", examples=[EXAMPLE_TEXT])
    texts: list[str] | None = Field(None, description="多条文本，结果按同样的顺序", min_length=1)
    aspect: str | list[str] | None = Field(
        None, description="方面，仅当模型的模板含 {aspect}：一个（所有文本共用），或与 texts 一样多的列表"
    )
    model: str | None = Field(None, description="模型名，见 /v1/models；默认第一个")
    explain: bool = Field(False, description="另给每个词、每个小句的作用；只能与 text 一起，多算几十次")

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, values: object) -> object:
        if isinstance(values, dict) and any(value is None for value in values.values()):
            raise ValueError("有的字段是 null：不用的字段请省去")
        return values

    @model_validator(mode="after")
    def _one_of_both(self) -> PredictRequest:
        if (self.text is None) == (self.texts is None):
            raise ValueError("text 与 texts 恰好给一个")
        if self.explain and self.text is None:
            raise ValueError("explain 只能与 text 一起用，一次一条")
        if isinstance(self.aspect, list) and len(self.aspect) != len(self.texts or [""]):
            raise ValueError("aspect 的个数与文本的条数不同")
        return self

    def all_texts(self) -> list[str]:
        """The texts, also where there is one."""
        return [self.text or ""] if self.texts is None else self.texts

    def all_aspects(self) -> list[str] | None:
        """One aspect for each text, or None."""
        given = self.aspect
        return [given] * len(self.all_texts()) if isinstance(given, str) else given


class Result(BaseModel):
    label: str = Field(description="最可能的标签", examples=["正面"])
    confidence: float = Field(description="它的概率（校准之后）", examples=[0.9874])
    scores: dict[str, float] = Field(description="每个标签的概率", examples=[{"负面": 0.0126, "正面": 0.9874}])
    tokens: int = Field(description="提示的 token 数（截断之前）", examples=[19])
    truncated: bool = Field(description="文本过长，中段没有读")
    explanation: Explanation | None = Field(
        None,
        description="仅当 explain：去掉这个小句或词（text[start:end]）后，label 的对数几率下降多少；正数支持，负数反对",
    )


class PredictAnswer(BaseModel):
    model: str = Field(description="用的模型", examples=["demo"])
    results: list[Result] = Field(description="与文本的顺序相同")


class ModelInfo(BaseModel):
    name: str = Field(description="请求里的 model")
    method: str = Field(description="方法", examples=[DEFAULT])
    labels: list[str] = Field(description="标签", examples=[["负面", "正面"]])
    base: str | None = Field(description="基座", examples=["Qwen/Qwen2.5-1.5B"])
    temperature: float = Field(description="校准温度（1 为没有校准）", examples=[1.0])
    precision: str | None = Field(description="计算精度", examples=["bf16"])
    max_length: int = Field(description="提示最长的 token 数，更长的截去文本中段", examples=[256])
    has_aspect: bool = Field(description="是否必须给方面")
    adapter_sha256: str | None = Field(description="适配器权重的 SHA-256；零样本没有")


class Models(BaseModel):
    models: list[ModelInfo] = Field(description="第一个是默认的")


class Health(BaseModel):
    status: str = Field(description="ok", examples=["ok"])


def parse_request(body: bytes) -> PredictRequest:
    """Read a request: strict JSON, each key once, no NaN.

    Raises:
        ServiceError: 422; it says where in the request something is wrong, never what stands there.
    """
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_each_key_once)
    except UnicodeDecodeError:
        raise ServiceError(422, "invalid_json", "请求体不是 UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"第 {error.lineno} 行第 {error.colno} 个字符"
        raise ServiceError(422, "invalid_json", f"请求体不是合法的 JSON（{where}）") from None
    except _NotStrict as error:
        raise ServiceError(422, "invalid_json", f"请求体不是合法的 JSON：{error}") from None
    except (ValueError, RecursionError):
        raise ServiceError(422, "invalid_json", "请求体不是合法的 JSON：嵌套太深，或数字太长") from None
    try:
        request = PredictRequest.model_validate(values)
    except ValidationError as error:
        details = [Detail(loc=_place(item["loc"]), message=_fault(item)) for item in error.errors()[:MAX_DETAILS]]
        raise ServiceError(422, "invalid_request", "请求的内容不对", details) from None
    faults = _text_faults(request)
    if faults:
        raise ServiceError(422, "invalid_text", f"有 {len(faults)} 处文字不能用", faults[:MAX_DETAILS])
    return request


def _text_faults(request: PredictRequest) -> list[Detail]:
    faults = []
    for name in ("text", "texts", "aspect"):
        value = getattr(request, name)
        for index, text in enumerate([value] if isinstance(value, str) else value or []):
            if fault := text_fault(text) or ("" if _is_unicode(text) else "含不成对的代理字符，不是合法的文字"):
                place: list[str | int] = ["body", name] if isinstance(value, str) else ["body", name, index]
                faults.append(Detail(loc=place, message=fault))
    return faults


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _NotStrict(ValueError):
    pass


def _no_constant(name: str) -> NoReturn:
    raise _NotStrict("有 NaN 或 Infinity")


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _NotStrict("有重复的键")
    return values


_PLAIN = re.compile(r"[A-Za-z_]{1,32}")
_FAULTS = {
    "extra_forbidden": "没有这个字段",
    "string_type": "要是字符串",
    "list_type": "要是数组",
    "bool_type": "要是 true 或 false",
    "too_short": "至少一条",
    "model_type": "最外层要是对象",
    "model_attributes_type": "最外层要是对象",
}


def _place(loc: tuple[int | str, ...]) -> list[str | int]:
    """The place, as far as it says nothing of a review: in a key anything could stand."""
    arms = ("str", "list[str]")  # pydantic names which type of a union it tried: no part of the request
    return ["body", *(p if isinstance(p, int) or _PLAIN.fullmatch(p) else "…" for p in loc if p not in arms)]


def _fault(item: ErrorDetails) -> str:
    if item["type"] == "value_error":  # raised by one of our own validators, in Chinese
        return str(item["ctx"]["error"])
    return _FAULTS.get(item["type"], "值不对")


def request_schema(names: Sequence[str], max_texts: int, has_aspect: bool) -> dict[str, Any]:
    """JSON schema of ``PredictRequest`` with what depends on the running service.

    Args:
        names: Its models.
        max_texts: Of one request.
        has_aspect: Whether one of its models takes aspects.
    """
    schema = PredictRequest.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    for name, values in properties.items():  # None stands for a field that is not there; null is refused
        if arms := [arm for arm in values.pop("anyOf", []) if arm["type"] != "null"]:
            properties[name] = {k: v for k, v in values.items() if k != "default"}
            properties[name] |= arms[0] if len(arms) == 1 else {"anyOf": arms}
        properties[name].pop("title", None)
    word = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    properties["text"] |= word
    properties["texts"] |= {"items": word, "maxItems": max_texts}
    properties["model"]["enum"] = list(names)
    if not has_aspect:
        del properties["aspect"]
    schema["oneOf"] = [{"required": ["text"]}, {"required": ["texts"]}]
    schema["not"] = {"required": ["texts", "explain"], "properties": {"explain": {"enum": [True]}}}
    return schema
