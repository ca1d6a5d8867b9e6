"""Errors from a data loader's worker: one line that says sample, why and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from callbacks.cli.config_errors import error_message
from callbacks.cli.worker_errors import worker_message
from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.shards.byte_reader import BadSampleError, ReadFailedError
from tests.datamodules.prepare.test_damaged_videos import for_jsonl
from tests.support.command_runs import fit
from tests.support.loader_errors import loader_error
from tests.support.shown_videos import CASES
from tests.support.tiny_video_llava import save_tiny_video_llava

WHY = "train-000000.tar: sample 'a': its data is damaged: at frame 3"
REMEDIES = (
    "; pass over such samples with --data.on_bad_sample skip, or make the shards again: `vidpref prepare` with "
    "--skip-bad leaves bad rows out and lists them"
)


class Failing(Dataset[torch.Tensor]):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        try:
            raise ValueError("the cause\nTraceback (most recent call last):\n  of something else")
        except ValueError as cause:
            raise self.error from cause


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BadSampleError(WHY), WHY + REMEDIES),
        (ReadFailedError(WHY), WHY),
        (BadSampleError("two\nlines"), "two\nlines" + REMEDIES),
        (RuntimeError(), "RuntimeError"),
    ],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_only_what_the_worker_said_and_the_remedies_of_a_bad_sample(
    error: Exception, message: str, num_workers: int
) -> None:
    failure = loader_error(Failing(error), num_workers)
    assert type(failure) is type(error)
    expected = "" if message == "RuntimeError" and not num_workers else message
    assert worker_message(failure) == error_message(failure) == expected


def test_other_messages_stay_as_they_are() -> None:
    assert worker_message(ValueError("Caught a cold")) == "Caught a cold"
    assert worker_message(BadSampleError(WHY)) == WHY  # read without a loader, by `prepare` for one


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fit_that_meets_a_damaged_video_ends_in_one_line(tmp_path: Path, num_workers: int) -> None:
    rows = for_jsonl(tmp_path, "zerotail", "ok")
    prepare_jsonl(rows, tmp_path / "train", videos=CASES, check="quick")
    save_tiny_video_llava(tmp_path / "tiny")
    flags = ("--trainer.max_steps=4", "--data.batch_size=1", f"--data.num_workers={num_workers}")
    result = fit(tmp_path, "--trainer.default_root_dir=run", *flags)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error: train-000000.tar: sample 'rows-000001': rows-000001.mp4: undecodable video")
    assert line.endswith(REMEDIES)
    assert fit(tmp_path, "--trainer.default_root_dir=other", *flags, "--data.on_bad_sample=skip").returncode == 0
