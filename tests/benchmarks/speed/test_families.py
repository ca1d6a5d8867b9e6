"""The tables of families: what the command prints is what the documentation has."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from benchmarks.speed import families
from callbacks.estimate.cards import GIB
from callbacks.estimate.checkpoint_facts import known_checkpoints
from callbacks.estimate.step import StepCost
from callbacks.estimate.tracker import Peak, Work
from tests.support.paths import ROOT

#: Checkpoint -> billions of weights, as the model's card or its name says.
PUBLISHED = {
    "LanguageBind/Video-LLaVA-7B-hf": 7.37, "llava-hf/llava-onevision-qwen2-7b-ov-hf": 8.03,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8.29, "Qwen/Qwen3-VL-8B-Instruct": 8.77, "zai-org/GLM-4.6V-Flash": 10.29,
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": 2.25, "lkhl/VideoLLaMA3-2B-Image-HF": 1.96,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 1.42, "Wan-AI/Wan2.1-T2V-14B-Diffusers": 14.3,
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": 16.4, "Wan-AI/Wan2.2-TI2V-5B-Diffusers": 5.0, "THUDM/CogVideoX-2b": 1.7,
    "THUDM/CogVideoX-5b": 5.6, "THUDM/CogVideoX1.5-5B": 5.6,
}  # fmt: skip


def documented() -> dict[str, list[str]]:
    """Checkpoint -> the cells of its line on the page, of the tables that have the step's memory."""
    page = (ROOT / "docs/families.md").read_text()
    rows: dict[str, list[str]] = {}
    for names in (families.ANSWERS_HEAD, families.FLOWS_HEAD):
        table = page.split(families.line(names) + "\n")[1].split("\n\n")[0]
        for line in table.splitlines()[1:]:
            cells = line.strip("| ").split(" | ")
            rows[cells[0].split("`")[1]] = cells
    return rows


def test_the_page_has_every_checkpoint_that_the_command_knows() -> None:
    rows = documented()
    assert list(rows) == [*families.ANSWERS, *families.FLOWS]
    assert set(rows) <= set(known_checkpoints())
    answers, flows = len(families.ANSWERS_HEAD), len(families.FLOWS_HEAD)
    assert all(len(cells) == (answers if name in families.ANSWERS else flows) for name, cells in rows.items())


def test_a_line_of_the_table() -> None:
    plain = StepCost(int(2.5 * GIB), 0, 0, 0, 0, Peak(int(7.25 * GIB)), Counter(), samples=2)
    plain.flops[Work("forward", "matmul", "bfloat16")] = int(3e14)
    packed = StepCost(int(1 * GIB), 0, 0, 0, 0, Peak(int(5.5 * GIB)), Counter())
    cells = families.cells("a/b", ["81 x 480 x 832"], 1_420_000_000, 32760, plain, packed)
    assert cells == ["`a/b`", "81 x 480 x 832", "1.4 B", "32760", "2.5 GiB", "7.2 GiB", "5.5 GiB", "150"]
    assert families.head(["a", "b", "c"], 2) == ["| a | b | c |", "|---|---|---:|"]


def test_an_unknown_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        families.main(["nobody/knows"])
    assert "nobody/knows: known are LanguageBind/Video-LLaVA-7B-hf" in capsys.readouterr().err
    with pytest.raises(ValueError, match="its sizes are not known"), families.without_files("nobody/knows"):
        pass


def test_parameters_are_those_of_the_published_models() -> None:
    rows = documented()
    column = {name: re.search(r"([\d.]+) B", " ".join(rows[name])) for name in PUBLISHED}
    known = {name: float(found[1]) for name, found in column.items() if found is not None}
    assert len(known) > 6
    assert known == pytest.approx({name: PUBLISHED[name] for name in known}, abs=0.051)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["THUDM/CogVideoX-2b"])
def test_a_row_of_the_page_is_what_the_command_prints(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    families.main([checkpoint])
    printed = capsys.readouterr().out
    assert families.line(documented()[checkpoint]) in printed
    assert families.line(families.FLOWS_HEAD) in printed
