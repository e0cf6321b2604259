"""What only a GPU shows: ``python -m pytest -m cuda`` on a machine with one; skipped, and said so, on all others."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.models.test_decoder import READS, ROWS, gradients, network
from tests.training.doomed import events
from zhsenti.doctor.command import main as doctor
from zhsenti.methods import METHODS
from zhsenti.methods.prompt import Encoded
from zhsenti.models.backbone import unwrap
from zhsenti.models.decoder import decode
from zhsenti.models.trie import SLACK, build_trie
from zhsenti.prediction.predictor import SentimentPredictor
from zhsenti.training.run import train

pytestmark = pytest.mark.cuda
TEXTS = ["很好", "房间很差，再也不来了。" * 3, "一般", "😀👍"]


@pytest.fixture(autouse=True)
def _gpu(monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("要 NVIDIA 显卡：python -m pytest -m cuda")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is made
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def transformers_states(model, rows, reads) -> torch.Tensor:
    """transformers' own forward, one row at a time."""
    states = [model(input_ids=torch.tensor([row], device="cuda")).last_hidden_state[0] for row in rows]
    return torch.cat([state[list(wanted)] for state, wanted in zip(states, reads, strict=True)])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("folder", ["tiny_model", "tiny_qwen3"])
def test_float32_states_and_gradients_are_those_of_transformers(folder, checkpointing, request):
    peft = network(request.getfixturevalue(folder))
    model = unwrap(peft).model
    expected = transformers_states(model, ROWS, READS)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).cuda()
    (expected * weights).sum().backward()
    expected_gradients = gradients(peft)
    trie = build_trie(ROWS, READS, SLACK["cuda"]).to("cuda")
    ours = decode(model, trie, checkpointing=checkpointing)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    (ours * weights).sum().backward()
    for name, gradient in gradients(peft).items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-3, rtol=1e-3, msg=name)


def test_bf16_is_as_near_to_exact_as_transformers_is(tiny_model):
    with torch.no_grad():
        exact = transformers_states(unwrap(network(tiny_model)).model, ROWS, READS)
        model = unwrap(network(tiny_model, dtype="bf16")).model
        with torch.autocast("cuda", torch.bfloat16):
            theirs = transformers_states(model, ROWS, READS).float()
            ours = decode(model, build_trie(ROWS, READS, SLACK["cuda"]).to("cuda")).float()
    error, their_error = ((states - exact).square().mean().sqrt() for states in (ours, theirs))
    assert 0 < error < 1.5 * their_error


@pytest.mark.parametrize("method", list(METHODS))
def test_a_step_on_a_base_in_four_bits(config, method, tmp_path):
    adapter = train(config(use_qlora=True, precision="auto", num_epochs=1, method=method))
    losses = [entry["loss"] for entry in events(tmp_path / "run", "train")]
    assert len(losses) > 5
    predictions = SentimentPredictor.from_folder(adapter).predict_batch(TEXTS)
    assert all(0.5 <= prediction.confidence <= 1 for prediction in predictions)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("method", list(METHODS))
def test_resumed_equals_unbroken(config, method, precision, tmp_path, stop_at):
    """Without LoRA dropout, so that it is our own path that is taken."""
    changes = {"method": method, "precision": precision, "lora_dropout": 0.0}
    whole = train(config("whole", **changes))
    with stop_at(7), pytest.raises(KeyboardInterrupt):
        train(config("cut", **changes))
    resumed = train(config("cut", **changes, resume_from_checkpoint="auto"))
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize("merge", [False, True])
def test_prediction_runs_on_the_gpu_and_says_what_transformers_says(config, merge):
    adapter = train(config(num_epochs=1, lora_dropout=0.0))
    predictor = SentimentPredictor.from_folder(adapter, merge=merge)
    assert {p.device for p in predictor.network.parameters()} == {torch.device("cuda", 0)}
    items: list[Encoded] = [predictor.method.encode(text) for text in TEXTS]
    plain = SentimentPredictor.from_folder(adapter, merge=True)  # a transformers model
    with torch.inference_mode():
        rows, reads = [item.ids for item in items], [[len(item.ids) - 1] for item in items]
        states = transformers_states(plain.network.model, rows, reads)
        expected = plain.method.log_probs(plain.network, states).cpu().numpy()
    assert abs(predictor.log_probs(TEXTS) - expected).max() < 1e-3


def test_doctor_says_what_the_card_does(capsys):
    doctor(["--offline", "--json"])
    (card,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["title"] == "显卡"][:1]
    assert torch.cuda.get_device_name() in card["found"]
    assert "bf16" in card["found"]
