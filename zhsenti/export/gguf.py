"""A GGUF file for llama.cpp and Ollama, written tensor by tensor with the gguf package, and Ollama's Modelfile.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhsenti.core.errors import ConfigError
from zhsenti.export.base import Format, Reloaded
from zhsenti.export.network import transformers_score
from zhsenti.methods import METHODS
from zhsenti.models.backbone import quiet_loading
from zhsenti.models.untrusted import FAMILY
from zhsenti.task import SentimentTask

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import PreTrainedModel

    from zhsenti.artifact import Manifest
    from zhsenti.methods.base import Method

MODEL, MODELFILE = "model.gguf", "Modelfile"
# dtype -> how matrices are stored (norms and biases stay float32), and the file's own word for that.
STORED = {
    "fp32": ("F32", "ALL_F32"),
    "fp16": ("F16", "MOSTLY_F16"),
    "bf16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}


class Gguf(Format):
    """``model.gguf`` and ``Modelfile``."""

    name = "gguf"
    dtypes = ("fp16", "bf16", "fp32", "q8_0")
    default_dtype = "fp16"
    usage = "llama-server -m {folder}/model.gguf，或 ollama create 名字 -f {folder}/Modelfile"
    takes_text = True

    def refuse(self, manifest: Manifest, method: type[Method]) -> None:
        """Also methods that do not score with the language-model head."""
        super().refuse(manifest, method)
        if not method.has_lm_head:
            able = "、".join(other.title for other in map(METHODS.load, METHODS) if other.has_lm_head)
            raise ConfigError(
                f"{method.title}不能导出成 gguf",
                found="llama.cpp 和 Ollama 只让语言模型续写文字，没有放分类头的地方",
                todo=f"改用 --format merged、onnx 或 openvino；或用{able}的方法训练。",
            )

    def write(self, method: Method, network: PreTrainedModel, folder: Path, dtype: str) -> None:
        """Both files, tensor by tensor."""
        from gguf import GGUFWriter

        config: Any = network.config
        rope = getattr(config, "rope_parameters", None) or {}
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        plain = config.model_type in FAMILY and rope.get("rope_type", "default") == "default"
        if not plain or tokenizer["model"]["type"] != "BPE":
            found = f"{config.model_type}，rope {rope.get('rope_type', 'default')}，分词器 {tokenizer['model']['type']}"
            raise ConfigError(
                "这一类模型还不能导出成 GGUF",
                expected="Qwen2、Qwen2.5、Qwen3",
                found=found,
                todo="改用 --format merged。",
            )
        writer = GGUFWriter(folder / MODEL, config.model_type)
        _add_shape(writer, config, rope, dtype)
        _add_tokenizer(writer, tokenizer, config, folder)
        for name, data, stored in _tensors(method.export(network), dtype):
            writer.add_tensor(name, data, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (folder / MODELFILE).write_text(modelfile(method.task, method.word_ids), encoding="utf-8")

    def load(self, method: Method, folder: Path) -> Reloaded:
        """By llama.cpp where its Python package is installed, else by transformers, which unpacks to float32."""
        if importlib.util.find_spec("llama_cpp"):
            return _llama_cpp(method, folder)
        import torch
        import transformers
        from transformers import AutoModelForCausalLM, GgufConfig

        with quiet_loading(), redirect_stderr(StringIO()):  # a bar that no setting turns off
            network = AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=MODEL,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                trust_remote_code=False,
            )
        return Reloaded(f"transformers {transformers.__version__}（读 GGUF）", transformers_score(method, network))


GGUF = Gguf()


def _add_shape(writer: GGUFWriter, config: Any, rope: dict[str, Any], dtype: str) -> None:
    from gguf import LlamaFileType

    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name("zhsenti")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope.get("rope_theta") or config.rope_theta)
    writer.add_file_type(LlamaFileType[STORED[dtype][1]])
    writer.add_quantization_version(2)


def _add_tokenizer(writer: GGUFWriter, tokenizer: dict[str, Any], config: Any, folder: Path) -> None:
    """Byte-level BPE. Ids that the embedding has rows for and the tokenizer has no token are marked unused."""
    from gguf import SpecialVocab, TokenType

    tokens = [f"[PAD{i}]" for i in range(config.vocab_size)]
    types = [TokenType.UNUSED] * config.vocab_size
    for token, index in tokenizer["model"]["vocab"].items():
        tokens[index], types[index] = token, TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    vocab = SpecialVocab(folder, load_merges=True, n_vocab=config.vocab_size)
    for kind in ("bos", "eos", "pad"):
        if isinstance(index := getattr(config, f"{kind}_token_id", None), int):
            vocab.special_token_ids.setdefault(kind, index)
    vocab.add_special_token["bos"] = False  # a prompt begins with its own first token
    vocab.add_to_gguf(writer, quiet=True)


def _tensors(network: Any, dtype: str) -> Iterator[tuple[str, np.ndarray, GGMLQuantizationType]]:
    """GGUF's name, the data as stored, and how it is stored, of each tensor.

    A tied head is left out: readers then take the embedding.
    """
    from gguf import MODEL_ARCH, GGMLQuantizationType, get_tensor_name_map
    from gguf.quants import quantize

    architecture = MODEL_ARCH[network.config.model_type.upper()]
    names = get_tensor_name_map(architecture, network.config.num_hidden_layers)
    tied = network.lm_head.weight.data_ptr() == network.model.embed_tokens.weight.data_ptr()
    for name, tensor in network.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if renamed is None:
            raise ConfigError(f"GGUF 没有放 {name} 的地方", todo="改用 --format merged。")
        stored = GGMLQuantizationType[STORED[dtype][0] if tensor.ndim == 2 else "F32"]
        yield renamed, quantize(tensor.float().numpy(), stored), stored


def modelfile(task: SentimentTask, word_ids: Sequence[list[int]]) -> str:
    """Ollama's recipe. Where its syntax cannot hold the template, or that has two slots, the caller makes the prompt.

    Args:
        task: What is asked of the model.
        word_ids: Token ids of the label words: so many tokens are continued at most.
    """
    whole = task.has_aspect or any(mark in task.template for mark in ("{{", '"""'))
    prompt = "{{ .Prompt }}" if whole else task.template.replace("{text}", "{{ .Prompt }}")
    return (
        f"# ollama create 名字 -f {MODELFILE}；续写出的不一定是标签词（{'、'.join(task.words)}），没有概率。\n"
        + ("# 任务的模板要由调用者填好，整段作为提示。\n" if whole else "")
        + f'FROM ./{MODEL}\nTEMPLATE """{prompt}"""\n'
        f"PARAMETER temperature 0\nPARAMETER num_predict {max(map(len, word_ids), default=1)}\n"
        f"PARAMETER num_ctx {max(512, 2 * task.max_length)}\n"
    )


def _llama_cpp(method: Method, folder: Path) -> Reloaded:
    import llama_cpp
    import numpy as np

    words = method.word_ids
    starts = {tuple(word[:k]) for word in words for k in range(len(word))}  # what a label word may begin with
    # A row is one batch, so that its last token's logits are those of the whole prompt.
    size = method.task.max_length + 32
    model = llama_cpp.Llama(str(folder / MODEL), n_ctx=size, n_batch=size, n_ubatch=size, verbose=False)

    def next_token(ids: list[int]) -> np.ndarray:
        """log p of every token after ``ids`` (V,)."""
        model.reset()
        model.eval(ids)
        pointer = llama_cpp.llama_get_logits_ith(model._ctx.ctx, -1)
        logits = np.ctypeslib.as_array(pointer, shape=(model.n_vocab(),)).astype(np.float64)
        return logits - np.logaddexp.reduce(logits)

    def score(rows: Sequence[list[int]]) -> np.ndarray:
        per_word = []
        for ids in rows:
            after = {start: next_token([*ids, *start]) for start in starts}
            per_word.append([sum(after[tuple(w[:k])][w[k]] for k in range(len(w))) for w in words])
        scores = np.array(per_word)
        return (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)

    return Reloaded(f"llama.cpp（llama-cpp-python {llama_cpp.__version__}）", score)
