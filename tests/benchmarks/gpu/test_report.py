"""What the page says: shares, differences from the estimate, faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.report import page, step_values, unlike_estimate, write_results
from benchmarks.gpu.row import Result

GIB = 2**30
CARD: dict[str, Any] = {
    "card": "NVIDIA H100", "memory_GiB": 79.6, "driver": "570.1", "cuda": "12.8", "cpu": "a processor",
    "python": "3.11", "versions": {"torch": "2.15.0", "trl": "not installed"}, "commit": "abc",
}  # fmt: skip


def results(peak: float = 20.0) -> list[Result]:
    step = {
        "sample": "six views", "seconds": [2.0, 1.0, 4.0], "peak_bytes": peak * GIB, "losses": [1.0],
        "syncs": {"a.py:3": 2, "b.py:4": 1},
    }  # fmt: skip
    estimate = {"peak_bytes": 22.0 * GIB, "phase": "backward", "flops": 8e14, "float32_flops": 2e14}
    part = {"operations": ["_scaled_dot_product_flash_attention"], "kernels": ["flash|fwd"]}
    return [
        Result("two", {"vista": estimate}, "", "estimates"),
        Result("", {"flops": 8e14, "card": CARD}, "", "rate", seconds=4),
        Result("", {"prefix": part}, "", "kernels"),
        Result("", step, "", "vista", seconds=50.4, limit=70),
        Result("", {}, "ended after 130 s", "dense", "late", 130, 130),
    ]


def test_the_values_of_a_step() -> None:
    values = step_values("vista", results())
    assert (values["seconds"], values["least"], values["most"], values["timed"]) == (2.0, 1.0, 4.0, 3)
    assert (values["peak_GiB"], values["estimate_GiB"]) == (20.0, 22.0)
    assert values["off"] == pytest.approx(0.1)  # of what was measured
    assert values["rate"] == pytest.approx(4e14)
    assert values["share"] == pytest.approx(0.5)
    assert values["float32_share"] == pytest.approx(0.25)
    assert values["syncs"] == 3
    assert step_values("dense", results()) == {}


@pytest.mark.parametrize(("peak", "off"), [(20.0, ""), (19.0, "+16%"), (26.0, "-15%"), (25.8, "")])
def test_an_estimate_that_is_off(peak: float, off: str) -> None:
    fault = unlike_estimate("vista", results(peak))
    assert (off in fault) if off else fault == ""


def test_the_page_and_the_file(tmp_path: Path) -> None:
    write_results(results(), tmp_path, dry_run=False)
    text = (tmp_path / "gpu.md").read_text()
    assert "card NVIDIA H100, memory_GiB 79.6, driver 570.1, cuda 12.8" in text
    assert "trl" not in text.splitlines()[2]
    assert "| dense | DenseDPO step, Wan2.1-1.3B, LoRA | late | 130 | 130 | ended after 130 s |" in text
    assert "| vista | 2 | 1 to 4 | 3 | 20.0 | 22.0 | +10% | 800 | 400 | 50% | 3 |" in text
    assert "| prefix | _scaled_dot_product_flash_attention | flash\\|fwd |" in text
    assert "| vista | a.py:3 | 2 |" in text
    assert "dry run" not in text
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert list(content["rows"]) == ["estimates", "rate", "kernels", "vista", "dense"]
    assert content["steps"]["vista"]["share"] == pytest.approx(0.5)
    assert content["rows"]["vista"]["values"]["seconds"] == [2.0, 1.0, 4.0]


def test_a_dry_run_says_so_and_needs_no_card() -> None:
    text = page([Result("", {}, "no memory", "rate", "failed")], dry_run=True)
    assert "no number means anything" in text
    assert "| rate | rate of one large matrix product in bfloat16 | failed | 0 | 0 | no memory |" in text
    assert "where the processor waits" not in text
