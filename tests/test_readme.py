"""Every command promised in the README runs as written, here with tiny settings added."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests import forked
from tests.paths import ROOT

PROMISED = [
    "pip install -r requirements.txt",
    "python scripts/train_label_scoring.py --lora_r 8 --num_epochs 3 --batch_size 8",
    "python scripts/train_classifier.py --lora_r 8 --num_epochs 3 --batch_size 8",
    "python scripts/train_label_scoring.py --lora_r 16 --num_epochs 5 --learning_rate 3e-4",
    "python scripts/train_label_scoring.py --use_qlora",
    "python scripts/train_label_scoring.py --batch_size 4",
    "python scripts/train_label_scoring.py --gradient_checkpointing",
    "python scripts/train_label_scoring.py --resume_from_checkpoint auto",
    "python scripts/inference.py --model_path ./experiments/label_scoring/lora_adapter "
    '--text "这个产品质量非常好，值得购买！"',
    "python scripts/inference.py --model_path ./experiments/label_scoring/lora_adapter --interactive",
    "python evaluation/run_full_eval.py --model_path ./experiments/label_scoring/lora_adapter",
    "cat evaluation/outputs/baseline_comparison.json",
    "tail -f experiments/label_scoring/train_results.json",
    "wandb login && python scripts/train_label_scoring.py",
]


def commands(readme: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_both_readmes_hold_all_promised_commands():
    found = commands("README.md")
    assert not [command for command in PROMISED if command not in found]
    assert [re.sub("[^ -~]+", "", line) for line in found] == [
        re.sub("[^ -~]+", "", line) for line in commands("README.en.md")
    ]
    assert (ROOT / "requirements.txt").is_file()
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("readme", ["README.md", "README.en.md"])
def test_speed_figures_are_those_of_the_committed_results(readme):
    text = (ROOT / readme).read_text(encoding="utf-8").split("<!-- speed:begin -->")[1].split("<!-- speed:end -->")[0]
    figures = {}
    for name in ("training", "scoring", "startup", "memory"):
        figures |= json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))["figures"]
    shown = {
        "textbook_peak_memory_gb": ".1f",
        "training_speedup_vs_textbook": ".1f",
        "scoring_speedup_vs_textbook": ".1f",
        "scoring_speedup_vs_textbook_padded": ".1f",
        "int8_speedup_vs_textbook": ".1f",
        "training_peak_memory_gb": ".1f",
        "startup_overhead_s": ".1f",
        "int8_reviews_per_s": ".2f",
    }
    percent = {"training_share_of_gemm_peak": ".0f", "scoring_share_of_gemm_peak": ".0f", "int8_agreement": ".2f"}
    for name, form in shown.items():
        assert f"{figures[name]:{form}}" in text, name
    for name, form in percent.items():
        assert f"{100 * figures[name]:{form}} %" in text, name


@pytest.mark.parametrize("readme", ["README.md", "README.en.md"])
def test_serving_figures_are_those_of_the_committed_results(readme):
    text = (ROOT / readme).read_text(encoding="utf-8").split("<!-- serving:begin -->")[1]
    rows = [line.split("|")[2].strip() for line in text.split("<!-- serving:end -->")[0].splitlines() if "|" in line]
    figures = {}
    for name in ("files", "serving"):
        figures |= json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))["figures"]
    shown = [
        f"{100 * figures['file_share_of_core']:.0f} %",
        f"{figures['file_rss_ratio_1m_vs_10k']:.2f}",
        {"README.md": "是", "README.en.md": "yes"}[readme] if figures["kill_resume_equal"] else "",
        f"{100 * figures['serving_share_of_batch']:.0f} %",
        f"{figures['p99_ms_at_8']:,.0f}",
        f"{figures['overload_requests']:,}",
    ]
    for row, figure in zip(rows[2:], shown, strict=True):
        assert row.startswith(figure), figure
    assert f"{figures['overload_lost']} " in rows[-1]
    assert f"{figures['overload_peak_rss_growth_mb']:.0f} MB" in rows[-1]
    assert f"{figures['kills']} " in text


def test_parity_figures_are_those_of_the_committed_exports():
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    folder = ROOT / "docs" / "results" / "export"
    assert {path.stem.partition("_")[0] for path in folder.glob("*.json")} == {"merged", "gguf", "onnx", "openvino"}
    for path in sorted(folder.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        parity = values["parity"]
        (low, high), whole = parity["agreement_ci95"], parity.get("whole_text_prompts")
        row = (
            f"| `{values['format']}` {values['dtype']} | {parity['runtime']} | {parity['n']} "
            f"| {100 * parity['agreement']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] "
            f"| {parity['max_probability_difference']:.1g} | "
        ) + (f"{100 * whole['agreement']:.1f} %（n={whole['n']}） |" if whole else "— |")
        assert row in text, row


@pytest.mark.parametrize("readme", ["README.md", "README.en.md"])
def test_evaluation_figures_are_those_of_the_committed_report(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    text = text.split("<!-- evaluation:begin -->")[1].split("<!-- evaluation:end -->")[0]
    folder = ROOT / "docs" / "results" / "evaluation"
    names = ("baseline_comparison", "confidence_analysis", "robustness_result")
    compared, confidence, robust = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in names)
    audited = json.loads((folder.parent / "audit.json").read_text(encoding="utf-8"))["figures"]
    timing = json.loads((folder / "timing.json").read_text(encoding="utf-8"))
    for name in ("zero_shot", "tfidf", "adapter_2"):
        (pair,) = (pair for pair in compared["pairs"] if (pair["a"], pair["b"]) == (name, "adapter"))
        low, high = (-100 * end for end in reversed(pair["leak_free"]["ci95"]))
        assert f"{-100 * pair['leak_free']['difference']:+.1f} [{low:.1f}, {high:.1f}]" in text, name
    challenge, target = robust["challenge"], confidence["target"]
    shown = [
        f"{confidence['temperature']:.2f}",
        f"{confidence['ece_before']:.3f}",
        f"{confidence['ece_after']:.3f}",
        f"{100 * challenge['accuracy']:.1f} %",
        f"{100 * challenge['by_half']['held_out']['accuracy']:.1f} %",
        f"{100 * challenge['by_category']['irony']['accuracy']:.0f} %",
        f"{100 * robust['flip_rate']['suffix']['rate']:.0f} %",
        f"{audited['audit_test_in_train']}",
        f"{audited['audit_dev_in_train']}",
        f"{audited['audit_repeated_in_train']:,}",
        f"{100 * audited['audit_flip_recall']:.0f} %",
        f"{audited['audit_peak_memory_gb']:.1f} GB",
        f"{timing['evaluation_seconds'] / 60:.1f}",
        f"{timing['quick_seconds'] / 60:.1f}",
    ]
    if target["to_person"] is not None:
        shown += [f"{100 * target['to_person']:.0f} %", f"{100 * target['test_precision']:.1f}"]
    for figure in shown:
        assert figure in text, figure


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder that looks like a clone: the commands' relative paths work and outputs stay out of the repo."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "run_full_eval.py").symlink_to(ROOT / "evaluation" / "run_full_eval.py")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    return folder


@pytest.fixture(scope="module")
def run(workplace, tiny_model, review_csv):
    def run(command: str, **env: str) -> subprocess.CompletedProcess:
        program, *words = shlex.split(command)
        if "train_" in command:
            words += ["--model_name", str(tiny_model), "--dataset", str(review_csv), "--max_length", "96"]
            words += ["--max_train_samples", "24", "--precision", "fp32"]
        assert program == "python"
        env = {**os.environ, "WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": "", **env}
        done = forked.run(words, cwd=workplace, env=env, stdin="很好\n\n很差\nquit\n")
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.parametrize("command", [c for c in PROMISED if c.startswith("python")], ids=lambda c: c[7:60])
def test_promised_python_command(command, run, workplace):
    """In the README's order: training comes before what reads its adapter, wherever the start was run."""
    needs_adapter = "--model_path" in command or "--resume_from_checkpoint" in command
    if needs_adapter and not (workplace / "experiments" / "label_scoring" / "lora_adapter").exists():
        run("python scripts/train_label_scoring.py")
    done = run(command)
    if "--text" in command:
        assert "→" in done.stdout
    if "--interactive" in command:
        assert done.stdout.count("→") == 2
    if "train_" in command:
        folder = workplace / "experiments" / ("classifier_head" if "classifier" in command else "label_scoring")
        lines = (folder / "train_results.json").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1])["event"] == "summary"
        assert (folder / "lora_adapter" / "adapter_model.safetensors").is_file()
    if "run_full_eval" in command:
        comparison = workplace / "evaluation" / "outputs" / "baseline_comparison.json"
        systems = json.loads(comparison.read_text(encoding="utf-8"))["systems"]
        assert [s["name"] for s in systems] == ["majority", "snownlp", "tfidf", "zero_shot", "adapter"]


def test_no_wandb_login_asks_nothing_and_fails_nothing(workplace, run, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    words = "python scripts/train_label_scoring.py --num_epochs 1 --output_dir experiments/plain"
    done = run(words, WANDB_MODE="online", WANDB_BASE_URL="http://127.0.0.1:9")
    assert "W&B" not in done.stdout + done.stderr
    assert not list((workplace / "experiments" / "plain").glob("wandb*"))


def test_wandb_with_a_key_but_no_network_does_not_cost_the_run(workplace, tiny_model, review_csv):
    env = {**os.environ, "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "online"}
    words = [sys.executable, "scripts/train_label_scoring.py", "--model_name", str(tiny_model)]
    words += [
        "--dataset",
        str(review_csv),
        "--max_length",
        "96",
        "--num_epochs",
        "1",
        "--precision",
        "fp32",
        "--output_dir",
        "experiments/offline",
    ]
    done = subprocess.run(words, cwd=workplace, capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "W&B 不可用" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "没有的文件.csv"], "没有这个数据文件或文件夹"),
        (["--dataset", "empty.csv"], "是空文件"),
        (["--dataset", "one.csv"], "只有一类标签"),
        (["--dataset", "unknown.csv"], "标签不认识"),
        (["--model_name", "没有的模型"], "没有这个模型"),
        (["--model_name", "Qwen/Qwen2.5-0.5B"], "连不上"),
        (["--resume_from_checkpoint", "nowhere"], "不能从 nowhere 续训"),
        (["--num_epochs", "many"], "不是数"),
        (["--config", "none.yaml"], "读不了配置文件"),
        (["--precision", "fp16"], "CPU 上不能用 fp16"),
    ],
)
def test_a_users_mistake_is_one_message_and_writes_nothing(tmp_path, tiny_model, review_csv, flags, message):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "one.csv").write_text("text,label\n" + "".join(f"好{i},1\n" for i in range(40)), encoding="utf-8")
    (tmp_path / "unknown.csv").write_text("text,label\n" + "".join(f"好{i},{i}\n" for i in range(4)), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    words = [str(ROOT / "scripts" / "train_label_scoring.py"), "--dataset", str(review_csv)]
    words += ["--model_name", str(tiny_model), "--max_length", "96", *flags]
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_ENDPOINT": "http://127.0.0.1:9"}
    env |= {"CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(tmp_path.parent / "hf")}
    if message == "连不上":  # the libraries read where the hub is when they are imported
        words = [sys.executable, *words]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=env, check=False)
    else:
        done = forked.run(words, cwd=tmp_path, env=env)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("错误：") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
