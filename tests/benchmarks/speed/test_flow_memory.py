"""The memory of a LoRA step that the documentation names is what the command computes."""

from __future__ import annotations

import pytest

from benchmarks.speed.flow_memory import CASES, main, step_bytes
from tests.support.paths import ROOT

#: Checkpoint -> billions of weights, as it is called, and gigabytes in the documentation.
EXPECTED = {
    "Wan2.1-T2V-1.3B": (1.4, 18), "Wan2.1-T2V-14B": (14.3, 80), "Wan2.2-A14B, an expert": (14.3, 80),
    "Wan2.2-TI2V-5B": (5.0, 35), "LTX-Video": (1.9, 10), "HunyuanVideo-1.5": (8.3, 58), "CogVideoX-2b": (1.7, 13),
    "CogVideoX-5b": (5.6, 31),
}  # fmt: skip


def test_every_checkpoint_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    lines = capsys.readouterr().out.splitlines()
    assert CASES.keys() == EXPECTED.keys()
    for line, (name, (weights, memory)) in zip(lines, EXPECTED.items(), strict=True):
        size = " x ".join(map(str, CASES[name].video))
        assert line.startswith(f"{name}: {weights} B, {size}: {memory} GB")
        assert size in (ROOT / "docs/families.md").read_text()
    text = (ROOT / "docs/families.md").read_text()
    for shown in (
        "18 GB (1.3B), 80 GB (14B)",
        "80 GB an expert",
        "35 GB:",
        "10 GB:",
        "58 GB:",
        "13 GB (2b), 31 GB (5b)",
    ):
        assert shown in text


def test_an_adapter_of_wan_has_ten_linears_a_block() -> None:
    parts = step_bytes(CASES["Wan2.1-T2V-1.3B"])
    attention, feed_forward = 8 * (1536 + 1536), 2 * (1536 + 8960)
    assert parts["adapter"] == 16 * 128 * 30 * (attention + feed_forward)
    assert parts["weights"] == 2 * parts["parameters"]
    assert parts["block inputs"] == 2 * 2 * 21 * 30 * 52 * 1536 * 30
