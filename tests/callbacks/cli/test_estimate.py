"""`vidpref estimate`: what it prints, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import vidpref
from callbacks.cli.verbs.command_check import check_command
from callbacks.cli.verbs.estimate import chosen_cards, estimate_parser
from callbacks.estimate.checkpoint_facts import facts_of, known_checkpoints
from tests.support.paths import ROOT

DENSE = ["estimate", "--config", "configs/toy/wan_dense.yaml"]
LORA = ["--model.policy.lora.r", "4", "--model.policy.lora.alpha", "8"]
VISTA = ["estimate", "--config", "configs/toy/vista.yaml", "--frame", "32x32", "--data.batch_size", "2"]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints."""
    assert vidpref.main(["--debug", *arguments]) == 0
    return capsys.readouterr().out


def row(text: str, start: str) -> list[str]:
    """The cells of the first line that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return re.split(r"\s{2,}", line)


@pytest.mark.slow
def test_dense_dpo_on_the_shipped_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    halves = ["--data.batch_size", "8", "--trainer.accumulate_grad_batches", "2"]
    text = printed([*DENSE, *halves, "--gpus", "1,2", "--card", "4090", "--card", "H100"], capsys)
    assert "a sample: latents of 16 x 9 x 4 x 4 (the training index)" in text
    assert "the run: 100 steps of 16; batch 8 on a GPU, reference: adapter" in text
    assert "with a step's last micro-batch (accumulation: whole); until then each GPU keeps 0.00 GiB" in text
    assert row(text, "GPUs  ")[1:] == [
        "frozen", "trained", "gradients", "optimizer", "batch", "activations", "peak",
    ]  # fmt: skip
    assert [row(text, start)[0] for start in ("1 one", "2 DDP", "2 FSDP2")] == ["1 one device", "2 DDP", "2 FSDP2"]
    phases = {name: float(row(text, name)[-1]) for name in ("reference", "forward", "backward", "step")}
    assert phases["step"] == pytest.approx(sum(phases.values()) - phases["step"], rel=1e-2)
    for card in ("4090: 24 GiB, 165 TFLOP/s", "H100: 79.6 GiB, 989 TFLOP/s"):
        assert card in text
    assert len(re.findall(r"largest batch of one GPU: \d+", text)) == 2
    assert len(re.findall(r"most latent frames at batch 8: \d+", text)) == 2
    for name in ("allocator", "CUDA context", "NCCL", "workspaces"):
        assert name in text[text.index("left out") :]


@pytest.mark.slow
def test_vista_dpo_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed([*VISTA, "--gpus", "1", "--memory", "2.001", "--quick"], capsys)
    assert "a sample: 4 frames of 32 x 32 (assumed" in text
    assert "give --samples" in text
    assert "does not fit" in text
    assert " h for 1,000 samples" in text
    assert "FSDP2 " not in text[text.index("GiB of each GPU") :]
    text = printed([*VISTA, "--gpus", "1", "--quick", "--samples", "500"], capsys)
    assert "the run: 2 epochs of 500" in text
    assert "fits" in text


@pytest.mark.slow
def test_a_published_checkpoint_is_estimated_offline(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(
        ["estimate", "--config", "configs/vista_dpo/video_llava_lora.yaml", "--gpus", "1", "--quick"], capsys
    )
    assert "VistaDPO on VideoLlavaPolicy (LanguageBind/Video-LLaVA-7B-hf)" in text
    frozen, trained, gradients, optimizer = map(float, row(text, "1 one")[1:5])
    # 7.37 billion weights in 2 bytes; rank 64 on seven linears of 32 blocks in 4.
    linears = 4 * (4096 + 4096) + 3 * (4096 + 11008)
    assert frozen == pytest.approx(13.72, abs=0.02)
    assert trained == gradients == pytest.approx(64 * linears * 32 * 4 / 2**30, abs=0.01)
    assert optimizer == pytest.approx(2 * trained, abs=0.02)


@pytest.mark.slow
def test_four_bits_and_compiled_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bitsandbytes")
    line = [*VISTA, "--gpus", "1,2", "--quick"]
    text = printed([*line, *LORA, "--model.policy.quantization", "nf4", "--model.policy.compile", "blocks"], capsys)
    assert "nf4: weights as bitsandbytes keeps them, half a byte each" in text
    assert "compiled blocks are counted as they run uncompiled" in text
    assert "an upper figure by what fused kernels leave out, approximate" in text
    assert "no FSDP2, which shards no four bits" in text
    assert [row(text, start)[0] for start in ("1 one", "2 DDP")] == ["1 one device", "2 DDP"]
    assert "\n2 FSDP2" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*DENSE, "--card", "H10"], "known are H100, H200, A100, 4090"),
        ([*DENSE, "--utilisation", "40"], "give a share above 0"),
        ([*VISTA, "--trainer.callbacks", "[]"], "add ReferenceModel"),
        (
            [*VISTA, *LORA, "--config", "configs/strategy/fsdp.yaml", "--model.policy.quantization", "nf4"],
            "four-bit weights are not sharded",
        ),
    ],
)
def test_what_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert vidpref.main(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_recipe_may_have_an_estimate_as_a_stage() -> None:
    check_command([*DENSE, "--gpus", "1", "--model.beta", "100"])
    with pytest.raises(ValueError, match="betta"):
        check_command([*DENSE, "--gpus", "1", "--model.betta", "100"])


def test_cards_are_changed_by_options() -> None:
    options = estimate_parser().parse_args(
        ["--card", "A100", "--memory", "40", "--rate", "300", "--utilisation", "0.5"]
    )
    (card,) = chosen_cards(options)
    assert (card.name, card.memory, card.bfloat16, card.float32, card.utilisation) == ("A100", 40, 300, 19.5, 0.5)
    assert options.gpus == [1, 2, 4, 8]
    assert [card.name for card in chosen_cards(estimate_parser().parse_args([]))] == ["H100"]


@pytest.mark.parametrize("flags", [["--gpus", "0,2"], ["--gpus", "x"], ["--video", "81x480"], ["--frame", "480"]])
def test_options_that_cannot_be_read(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        estimate_parser().parse_args(flags)
    assert flags[0] in capsys.readouterr().err


def test_every_published_checkpoint_of_the_recipes_is_known() -> None:
    import yaml

    known = set(known_checkpoints())
    named: dict[str, str] = {}
    for recipe in sorted((ROOT / "configs" / "recipes").glob("*.yaml")):
        for config in re.findall(r"configs/(?:vista|dense)_dpo/\w+\.yaml", recipe.read_text()):
            content: Any = yaml.safe_load((ROOT / config).read_text()).get("model", {}).get("init_args", {})
            path = content.get("policy", {}).get("init_args", {}).get("path")
            if path is not None:
                named[config] = path
    assert len(named) > 4
    assert {config: path for config, path in named.items() if path not in known} == {}


def test_facts_are_facts(tmp_path: Path) -> None:
    for name in known_checkpoints():
        facts = facts_of(name)
        assert facts is not None
        assert facts["id"] == name
    assert facts_of("nobody/knows") is None
