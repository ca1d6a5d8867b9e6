"""The whole proof at small sizes on a CPU: what fails here would fail on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.random_weights import CHECKPOINTS, write_random
from benchmarks.gpu.row import ROWS
from callbacks.estimate.checkpoint_facts import facts_of
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.policies.wan import WanPolicy

pytestmark = pytest.mark.slow


def test_every_row_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--dry-run", "--output", str(tmp_path)])
    content = json.loads((tmp_path / "gpu.json").read_text())
    rows = content["rows"]
    assert list(rows) == [row.name for row in ROWS]
    assert {name: row["fault"] for name, row in rows.items() if row["state"] != "passed"} == {}
    assert status == 0
    assert content["dry_run"] is True
    for name in ("vista", "dense"):
        assert len(rows[name]["values"]["seconds"]) == 10
        assert len(rows[name]["values"]["losses"]) == 13
        assert content["steps"][name]["share"] > 0
        sharded = rows[f"{name}-fsdp"]["values"]
        assert sharded["resumed_equal"]
        assert sharded["exported_equal"]
        assert sharded["steps_after_resume"] == 1
        assert sharded["exported_tensors"] > 10
    assert rows["devices"]["values"]["DenseDPO"]["gradient"] > 0  # the two were computed in two ways
    assert rows["kill"]["values"]["steps"][-1]["step"] == 6
    page = (tmp_path / "gpu.md").read_text()
    assert "| vista-fsdp | VistaDPO under FSDP2: save, resume, export | passed |" in page
    assert not (tmp_path / "scratch").exists()
    assert "loader: passed" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["vista", "dense"])
def test_random_checkpoints_hold_every_weight(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Several files, as those of true size have.
    monkeypatch.setattr("benchmarks.gpu.random_weights._FILE_BYTES", 2**15)
    size = write_random(method, tmp_path, dry_run=True)
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) > 1
    assert size <= sum(file.stat().st_size for file in files) <= 1.5 * size
    policy = (VideoLlavaPolicy if method == "vista" else WanPolicy)(str(tmp_path), dtype="bfloat16")
    policy.load()
    assert "newly initialized" not in caplog.text
    assert "MISSING" not in caplog.text
    weights = dict(policy.named_parameters())
    assert all(float(weight.std()) > 0 for weight in weights.values() if weight.ndim > 1)
    assert sum(weight.numel() for weight in weights.values()) == size / 2


def test_the_sizes_are_those_of_the_published_checkpoints() -> None:
    from benchmarks.gpu.random_weights import sizes

    for method, name in CHECKPOINTS.items():
        assert sizes(method, dry_run=False) == facts_of(name)
