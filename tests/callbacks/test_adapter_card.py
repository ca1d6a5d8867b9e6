"""An export says what it is: base, method, data, settings, scores; and anybody may read it whom the umask lets."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
import yaml

import vidpref
from callbacks.adapter_card import RunNumbers, card
from callbacks.card_scores import BenchmarkScore
from datamodules.shards.index import Index
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.pairs_harness import eleven_samples
from tests.support.paths import ROOT

CHECKPOINT = ROOT / "datamodules/toy_world/checkpoints/video_llava"


def table(text: str) -> dict[str, str]:
    """The rows of a card's tables."""
    rows = [line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}


@pytest.mark.slow
def test_the_card_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    index = eleven_samples(tmp_path)
    arguments = ["fit", "--config", str(ROOT / "configs/toy/vista.yaml"), "--model.policy.path", str(CHECKPOINT)]
    arguments += ["--data.train", index.name, "--data.val", index.name, "--data.batch_size", "4"]
    arguments += ["--trainer.default_root_dir", "run", "--trainer.max_steps", "2", "--model.beta", "0.3"]
    arguments += ["--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false"]
    monkeypatch.setattr(sys, "argv", ["vidpref.py", *arguments])
    before = os.umask(0o027)
    try:
        assert vidpref.main(arguments) == 0
    finally:
        os.umask(before)
    folder = tmp_path / "run/exports/last"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(["README.md", "adapter_config.json", "adapter_model.safetensors"], 0o640)
    text = (folder / "README.md").read_text()
    assert "More Information Needed" not in text
    front = yaml.safe_load(text.split("---")[1])
    assert front == {"library_name": "peft", "tags": ["vidpref", "VistaDPO"]}, "a hub refuses a folder as the base"
    rows = table(text)
    assert rows["base"] == str(CHECKPOINT)
    assert rows["licence of the base"].startswith("unknown: ")
    assert rows["model.beta"] == "0.3"
    assert rows["data.batch_size"] == "4"
    assert rows["trainer.max_steps"] == "2"
    assert "model.rejected_weight" not in rows, "that is the default"
    assert rows["method"] == "VistaDPO"
    assert rows["beta"] == "0.3"
    assert rows["term weights"] == "response 1, video 1, clip 0.4, object 0.2, token 0.1"
    assert rows["optimizer steps"] == "2"
    assert rows["training data"] == f"train.index.json: 11 samples, fingerprint {Index.read(index).fingerprint}"
    assert rows["command"].startswith("`vidpref fit --config ")
    assert "torch " in rows["versions"]
    assert float(rows["val/loss"]) > 0
    assert "train/loss" not in rows, "validation speaks where there is one"


def test_the_card_of_a_whole_model_without_scores(tmp_path: Path) -> None:
    module = VistaDPO(VideoLlavaPolicy(str(CHECKPOINT), num_frames=4), weights=VistaWeights(token=0.0))
    text = card(tmp_path, module, RunNumbers(steps=7))
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "transformers"
    assert table(text)["what trains"] == "the model's own weights"
    assert table(text)["prompt_template"] == r"USER: <video>\n{question} ASSISTANT:"
    assert "The last logged scores" not in text
    assert "Scores of benchmarks" not in text
    assert "The settings of the run were not recorded." in text


def test_a_pipe_in_a_setting_does_not_break_the_table(tmp_path: Path) -> None:
    policy = VideoLlavaPolicy(str(CHECKPOINT), lora=LoraSettings(targets=r".*(q_proj|v_proj)"), num_frames=4)
    text = card(tmp_path, VistaDPO(policy), RunNumbers(steps=1))
    (line,) = [line for line in text.splitlines() if line.startswith("| LoRA |")]
    assert r"(q_proj\|v_proj)" in line


def test_a_base_on_the_hub_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = VistaDPO(VideoLlavaPolicy(str(CHECKPOINT), num_frames=4))
    module.policy.path = "LanguageBind/Video-LLaVA-7B-hf"
    front = yaml.safe_load(card(tmp_path, module, RunNumbers(steps=1)).split("---")[1])
    assert front["base_model"] == "LanguageBind/Video-LLaVA-7B-hf"


def test_the_settings_and_scores_of_a_card(tmp_path: Path) -> None:
    settings = {"model.beta": 0.3, "model.policy.lora": {}, "trainer.callbacks": ["AdapterExport"]}
    facts = {"command": ["x.py", "fit", "--logger.api_key", "0a1b2c3d"], "git_commit": None, "versions": {"torch": "2"}}
    numbers = RunNumbers(1, {}, {"val/loss": 0.5}, 1, facts, settings)
    scores = [
        BenchmarkScore("VideoHallucer", "temporal/overall", 0.62345, (0.6, 0.65), 0.95, "published; judge rules"),
        BenchmarkScore("VBench", "total", 0.8, None, None, ""),
    ]
    module = VistaDPO(VideoLlavaPolicy(str(CHECKPOINT), num_frames=4))
    text = card(tmp_path, module, numbers, scores)
    rows = table(text)
    assert rows["model.beta"] == "0.3"
    assert rows["model.policy.lora"] == "with its defaults"
    assert rows["trainer.callbacks"] == '["AdapterExport"]'
    assert rows["command"] == "`vidpref fit --logger.api_key ***`"
    assert "| VideoHallucer | temporal/overall | 0.6234 [0.6, 0.65] at 95% | published; judge rules |" in text
    assert "| VBench | total | 0.8 no interval |  |" in text
    assert rows["val/loss"] == "0.5"
