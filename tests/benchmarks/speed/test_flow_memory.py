"""The memory of a LoRA step that the documentation names is what the command computes."""

from __future__ import annotations

import re

import pytest

from benchmarks.speed.flow_memory import CASES, GIB, step_bytes, table
from tests.support.paths import ROOT

#: Checkpoint -> billions of weights, as the model's card or its name says.
PUBLISHED = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 1.42,
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": 14.3,
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": 16.4,
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": 5.0,
    "THUDM/CogVideoX-2b": 1.7,
    "THUDM/CogVideoX-5b": 5.6,
    "THUDM/CogVideoX1.5-5B": 5.6,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_published_models(name: str) -> None:
    assert step_bytes(CASES[name])["parameters"] / 1e9 == pytest.approx(PUBLISHED[name], rel=0.02)


def test_the_page_holds_the_commands_table_and_the_readme_its_checkpoints() -> None:
    assert table() in (ROOT / "docs/families.md").read_text()
    readme = (ROOT / "README.md").read_text()
    for line in table().splitlines()[2:]:
        checkpoint, _, _, _, memory = (cell.strip() for cell in line.strip("| ").split(" | "))
        # A line of the README has checkpoints of one policy, and the memory of each in their order.
        (row,) = (row for row in readme.splitlines() if checkpoint.split(",")[0] in row)
        assert memory.removesuffix(" GiB") in re.findall(r"\d+", row.rsplit("|", 2)[1])


def test_an_adapter_of_wan_has_ten_linears_a_block() -> None:
    parts = step_bytes(CASES["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"])
    attention, feed_forward = 8 * (1536 + 1536), 2 * (1536 + 8960)
    assert parts["adapter"] == 16 * 128 * 30 * (attention + feed_forward)
    assert parts["weights"] == 2 * parts["parameters"]
    assert parts["block inputs"] == 2 * 2 * 21 * 30 * 52 * 1536 * 30
    image = step_bytes(CASES["Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"])["adapter"]
    assert image - step_bytes(CASES["Wan-AI/Wan2.1-T2V-14B-Diffusers"])["adapter"] == 16 * 128 * 40 * 2 * (5120 + 5120)
    assert GIB == 1024**3
