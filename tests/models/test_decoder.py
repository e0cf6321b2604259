"""Our forward and backward against transformers' and peft's on padded rows: the same numbers, whatever is skipped."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from zhsenti.models import autograd as functions
from zhsenti.models import decoder as decoder_module
from zhsenti.models.backbone import LoraOptions, add_lora, load_backbone, unwrap
from zhsenti.models.decoder import decode
from zhsenti.models.int8 import WEIGHT_STEPS, Int8, Int8Linear
from zhsenti.models.precision import pick_precision
from zhsenti.models.trie import ALIGN, SLACK, build_trie

ROWS = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 10, 11, 12], [5, 6, 7, 8], [20]]
READS = [[3], [2], [4, 6], [3], [0]]
TOKEN_ROWS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=8)


def network(folder, targets="all-linear", dtype="fp32", dropout=0.0):

    torch.manual_seed(3)
    model = load_backbone(folder, "AutoModelForCausalLM", pick_precision(dtype))
    peft = add_lora(model, LoraOptions(4, 8, dropout, targets))
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    return peft


def reference(model, rows, reads):
    """transformers' own forward, one row at a time."""
    states = [model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]
    return torch.cat([state[torch.tensor(wanted)] for state, wanted in zip(states, reads, strict=True)])


def gradients(peft):
    found = {name: p.grad.clone() for name, p in peft.named_parameters() if p.grad is not None}
    peft.zero_grad(set_to_none=True)
    return found


@given(rows=TOKEN_ROWS, data=st.data())
def test_trie_holds_every_row_once(rows, data):
    reads = [data.draw(st.lists(st.integers(0, len(row) - 1), min_size=1, max_size=3)) for row in rows]
    trie = build_trie(rows, reads)
    prefixes = {tuple(row[: n + 1]) for row in rows for n in range(len(row))}
    assert len(trie.ids) == -(-len(prefixes) // ALIGN) * ALIGN

    written = [ids for block in trie.expand(trie.ids) for ids in block.tolist()]
    positions = [places for block in trie.expand(trie.positions) for places in block.tolist()]
    longest_first = sorted(rows, key=lambda row: -len(row))
    for row, ids, places in zip(longest_first, written, positions, strict=True):
        assert ids[: len(row)] == row
        assert places[: len(row)] == list(range(len(row)))
    ends = iter(map(len, longest_first))
    for R, T in trie.blocks[:-1]:  # the last one may be wider, to hold the nodes that fill up
        assert all((1 - SLACK["cpu"]) * T <= next(ends) <= T for _ in range(R))

    assert trie.places[trie.home].tolist() == list(range(len(trie.ids)))
    starts = itertools.accumulate((T for R, T in trie.blocks for _ in range(R)), initial=0)
    real = [start + n for row, start in zip(longest_first, starts, strict=False) for n in range(len(row))]
    assert sorted([*trie.home[: len(prefixes)].tolist(), *trie.again.tolist()]) == real
    assert not set(real) & set(trie.home[len(prefixes) :].tolist())  # filled up outside every row
    assert trie.places[trie.again].tolist() == trie.shared[trie.again_of].tolist()

    wanted = [row[: n + 1] for row, places in zip(rows, reads, strict=True) for n in places]
    assert trie.ids[trie.reads].tolist() == [path[-1] for path in wanted]


@given(rows=TOKEN_ROWS)
@settings(max_examples=25, deadline=None)
def test_expand_and_collapse_have_the_gradients_of_plain_indexing(rows):
    trie = build_trie(rows, [[0]] * len(rows))
    x = torch.randn(len(trie.ids), 3, dtype=torch.float64, requires_grad=True)
    # Padded places are never read, so they carry no gradient.
    real = torch.zeros(len(trie.places), 1, dtype=torch.float64)
    real[torch.cat([trie.home, trie.again])] = 1
    weights = torch.randn(len(trie.places), 3, dtype=torch.float64) * real
    flat = torch.cat([block.flatten(0, 1) for block in trie.expand(x)])
    (ours,) = torch.autograd.grad((flat * weights).sum(), x)
    (plain,) = torch.autograd.grad((x[trie.places] * weights).sum(), x)
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-6)
    y = torch.randn(len(trie.places), 3, dtype=torch.float64, requires_grad=True)
    blocks = [
        part.view(R, T, 3) for part, (R, T) in zip(y.split([R * T for R, T in trie.blocks]), trie.blocks, strict=True)
    ]
    weights = torch.randn(len(trie.ids), 3, dtype=torch.float64)
    (ours,) = torch.autograd.grad((trie.collapse(blocks) * weights).sum(), y)
    (plain,) = torch.autograd.grad((y[trie.home] * weights).sum(), y)
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("targets", ["all-linear", "q_proj,down_proj"])
@pytest.mark.parametrize("block", [2, 64])
@pytest.mark.parametrize("folder", ["tiny_model", "tiny_qwen3"])
def test_states_and_gradients_are_those_of_transformers(folder, block, targets, checkpointing, request, monkeypatch):
    monkeypatch.setattr(functions, "BLOCK", block)
    peft = network(request.getfixturevalue(folder), targets)
    model = unwrap(peft).model
    expected = reference(model, ROWS, READS)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (expected * weights).sum().backward()
    expected_gradients = gradients(peft)

    ours = decode(model, build_trie(ROWS, READS), checkpointing=checkpointing)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    (ours * weights).sum().backward()
    ours_gradients = gradients(peft)
    assert ours_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(ours_gradients[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_frozen_weights_have_no_gradient(tiny_model):
    peft = network(tiny_model)
    decode(unwrap(peft).model, build_trie(ROWS, READS)).sum().backward()
    with_gradient = {name for name, p in peft.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in peft.named_parameters() if p.requires_grad}


def test_merged_and_switched_off_adapters_are_seen(tiny_model):
    peft = network(tiny_model)
    model, trie = unwrap(peft).model, build_trie(ROWS, READS)
    with torch.no_grad():
        adapted = decode(model, trie)
        with peft.disable_adapter():
            plain = decode(model, trie)
            torch.testing.assert_close(plain, reference(model, ROWS, READS), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(plain, adapted, atol=1e-3)
        peft.merge_adapter()
        torch.testing.assert_close(decode(model, trie), adapted, atol=1e-4, rtol=1e-4)


def test_other_decoders_and_lora_dropout_go_through_transformers(tiny_model, monkeypatch):
    peft = network(tiny_model, dropout=0.5).eval()
    model, trie = unwrap(peft).model, build_trie(ROWS, READS)
    expected = decode(model, trie)
    monkeypatch.setattr(decoder_module, "is_known", lambda _: False)
    torch.testing.assert_close(decode(model, trie), expected, atol=1e-5, rtol=1e-5)
    monkeypatch.undo()
    calls, forward = [], type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda *a, **k: (calls.append(k), forward(*a, **k))[1])
    model.train()
    assert not torch.allclose(decode(model, trie), expected, atol=1e-3)
    assert len(calls) == len(trie.blocks)
    model.eval()
    torch.testing.assert_close(decode(model, trie), expected, atol=1e-5, rtol=1e-5)
    assert len(calls) == len(trie.blocks)


def test_bf16_is_as_near_to_exact_as_transformers_is(tiny_model):
    exact = reference(unwrap(network(tiny_model)).model, ROWS, READS).detach()
    peft = network(tiny_model, dtype="bf16")
    model = unwrap(peft).model
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        theirs = reference(model, ROWS, READS).float()
        ours = decode(model, build_trie(ROWS, READS)).float()
    error, their_error = ((states - exact).square().mean().sqrt() for states in (ours, theirs))
    assert error < 1.5 * their_error
    assert error > 0


@pytest.mark.parametrize("T", [1, 2, 64, 65, 150])
def test_attention_in_blocks_equals_the_fused_kernel(T):
    torch.manual_seed(T)
    q, k, v = (torch.randn(3, heads, T, 8, dtype=torch.float32, requires_grad=True) for heads in (6, 2, 2))
    weights = torch.randn(3, 6, T, 8)
    ours = functions.BlockAttention.apply(q, k, v, 0.3)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(ours, fused, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weights).sum(), (q, k, v)),
        torch.autograd.grad((fused * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grouped", [True, False])
def test_torch_s_attention_is_the_same_with_and_without_repeated_keys(grouped):
    """What a GPU takes; where only flash kernels read grouped heads, the others get them repeated."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 9, 8, requires_grad=True) for heads in (6, 2, 2))
    weights = torch.randn(2, 6, 9, 8)
    ours = functions.fused_attention(q, k, v, 0.3, grouped=grouped)
    exact = functions.BlockAttention.apply(q, k, v, 0.3)
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weights).sum(), (q, k, v)),
        torch.autograd.grad((exact * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "capability", "flash"),
    [
        (torch.bfloat16, (9, 0), True),
        (torch.float16, (8, 0), True),
        (torch.float32, (9, 0), False),
        (torch.float16, (7, 5), False),
    ],
)
def test_grouped_heads_go_to_the_flash_kernel_alone(dtype, capability, flash, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert functions.has_flash(torch.empty(1, 2, 3, 8, dtype=dtype)) is flash


def test_wider_blocks_give_the_same_states(tiny_model):
    """A GPU takes fewer and wider blocks than a CPU."""
    model = unwrap(network(tiny_model)).model
    narrow, wide = (build_trie(ROWS, READS, SLACK[device]) for device in ("cpu", "cuda"))
    assert len(wide.blocks) < len(narrow.blocks)
    torch.testing.assert_close(decode(model, wide), decode(model, narrow), atol=1e-5, rtol=1e-5)


def test_a_trie_goes_to_another_device_in_one_copy(monkeypatch):
    trie, copies = build_trie(ROWS, READS), []
    original = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *a, **k: copies.append(x.dtype) or original(x, *a, **k))
    there = trie.to("meta")
    assert copies == [torch.int64]
    for name in ("ids", "positions", "places", "home", "shared", "again", "again_of", "reads"):
        assert getattr(there, name).device.type == "meta"
        assert getattr(there, name).shape == getattr(trie, name).shape
    assert there.blocks == trie.blocks
    assert trie.to("cpu") is trie


@pytest.mark.parametrize("function", ["norm", "swiglu"])
def test_written_gradients_pass_gradcheck(function):
    torch.manual_seed(0)
    x, y = (torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    if function == "swiglu":
        assert torch.autograd.gradcheck(functions.Swiglu.apply, (x, y))
    else:  # its arithmetic is float32 whatever comes in, so the check is against torch's own, not finite differences
        weight = torch.randn(6, dtype=torch.float64)
        ours = functions.RmsNorm.apply(x, weight, 1e-6)
        theirs = F.rms_norm(x, (6,), weight, 1e-6)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        (mine,), (true,) = torch.autograd.grad((ours * y).sum(), x), torch.autograd.grad((theirs * y).sum(), x)
        torch.testing.assert_close(mine, true, atol=1e-5, rtol=1e-5)


def in_int8(linear):
    parent = torch.nn.Sequential(linear)
    Int8(parent)
    return parent[0]


def test_int8_products_are_within_their_rounding():
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 48).requires_grad_(False)
    x = torch.randn(10, 64)
    x[3] = 0  # an all-zero row has no scale of its own
    exact, ours = linear(x), in_int8(linear)(x)
    assert ours.dtype == x.dtype
    torch.testing.assert_close(ours[3], linear.bias)
    # Two roundings of at most half a step each: s_x |w|₁ / 2 + s_w |x|₁ / 2.
    steps_x, steps_w = x.abs().amax(1, keepdim=True) / 127, linear.weight.abs().amax(1) / WEIGHT_STEPS
    bound = steps_x * linear.weight.abs().sum(1) / 2 + steps_w * x.abs().sum(1, keepdim=True) / 2
    assert ((ours - exact).abs() <= 1.05 * bound + 1e-5).all()
    assert (ours - exact).abs().max() > 0


def test_int8_never_wraps_around():
    """The largest input of a token is ±126 steps; a scale rounded down in bf16 must not carry it past 127."""
    torch.manual_seed(0)
    x = torch.randn(4096, 8).to(torch.bfloat16)
    linear = torch.nn.Linear(8, 8, bias=False).to(torch.bfloat16).requires_grad_(False)
    exact, ours = linear(x).float(), in_int8(linear)(x).float()
    assert (ours - exact).abs().max() < 0.2


def test_int8_holds_lora_and_can_be_switched_off(tiny_model):
    peft = network(tiny_model)
    model, trie = unwrap(peft).model, build_trie(ROWS, READS)
    with torch.inference_mode():
        exact = decode(model, trie)
        with peft.disable_adapter():
            bare = decode(model, trie)
        int8 = Int8(model)
        ours = decode(model, trie)
        with int8.off():
            assert decode(model, trie).equal(exact)
        assert decode(model, trie).equal(ours)
    layer = model.layers[0].mlp.down_proj
    assert isinstance(layer, Int8Linear)
    assert not any(isinstance(module, Int8Linear) for module in layer.original.modules())
    assert F.cosine_similarity(ours, exact).min() > 0.99
    assert not torch.equal(ours, exact)
    assert (ours - exact).norm() < 0.1 * (bare - exact).norm()


def test_int8_rounds_a_shared_input_once(tiny_model, monkeypatch):
    """q, k and v read the same tensor, gate and up another: four roundings a layer, not seven."""
    model = unwrap(network(tiny_model)).model
    Int8(model)
    rounded = []
    original = torch.Tensor.bitwise_xor_
    monkeypatch.setattr(torch.Tensor, "bitwise_xor_", lambda x, y: rounded.append(1) or original(x, y))
    with torch.inference_mode():
        decode(model, build_trie(ROWS, READS))
    assert len(rounded) == 4 * len(model.layers)
