"""Reading of runs' folders: curves and accuracies of all their starts, records, and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report.runs import Run, read_run
from tests.support.run_folders import base, vista, write_metrics, write_test

__all__ = ["base", "vista"]


def test_curves_of_a_resumed_run_join_without_repeated_steps(vista: Path) -> None:
    run = read_run(vista)
    assert set(run.curves) == {"total", "video", "late"}
    assert run.curves["total"].steps == [0, 1, 2, 3, 4]
    assert run.curves["total"].values == pytest.approx([2.0, 1.9, 1.0, 1.0, 1.0])
    assert run.curves["late"].steps == [2, 3, 4]


def test_the_last_reward_accuracy_counts_and_a_validation_of_its_own_most(vista: Path) -> None:
    assert read_run(vista).reward_accuracy == 0.75
    write_metrics(vista / "validate" / "version_0", [{"step": 4, "val/rewards/accuracies": 0.8}])
    assert read_run(vista).reward_accuracy == 0.8


def test_seed_command_and_commit_are_read_from_the_record(vista: Path) -> None:
    (record,) = read_run(vista).records
    assert record["seed"] == 11
    assert record["git_commit"] == "abc123"


def test_two_tests_in_one_folder_are_refused(vista: Path) -> None:
    write_test(vista / "test-again", 0.5)
    with pytest.raises(ValueError, match="several tests"):
        read_run(vista)


def test_a_run_is_named_after_its_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    run: Run = read_run(Path())
    assert run.name == "base"
