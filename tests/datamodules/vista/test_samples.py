"""Which row of a policy's scores belongs to which sample."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import torch
from lightning.fabric.utilities import move_data_to_device

from datamodules.vista.samples import View, VistaBatch

FRAMES = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)


def three_samples() -> VistaBatch:
    """Eight answers: rows 0 to 3 of sample 0, 4 to 6 of sample 1, which is masked, 7 of sample 2."""
    answers = {"chosen": "a", "rejected": "b", "irrelevant": "c"}
    views = [
        View(0, "original", FRAMES, "q", dict(answers)),
        View(0, "clip", FRAMES, "q", {"chosen": "a"}),
        View(1, "original", FRAMES, "q", {"chosen": "-", "rejected": "-"}),
        View(1, "clip", FRAMES, "q", {"chosen": "-"}),
        View(2, "original", FRAMES, "q", {"chosen": "a"}),
    ]
    return VistaBatch(["s0", "s1", "s2"], views, torch.tensor([True, False, True]))


def test_rows_count_all_answers_and_leave_masked_samples_out() -> None:
    batch = three_samples()
    assert batch.rows("original", "chosen") == {0: 0, 2: 7}
    assert batch.rows("original", "rejected") == {0: 1}
    assert batch.rows("original", "irrelevant") == {0: 2}
    assert batch.rows("clip", "chosen") == {0: 3}
    assert batch.rows("object", "chosen") == {}
    assert batch.real == [True, False, True]


def test_rows_follow_the_mask_of_another_batch() -> None:
    batch = replace(three_samples(), mask=torch.tensor([False, True, False]))
    assert batch.rows("original", "chosen") == {1: 4}
    assert batch.rows("clip", "chosen") == {1: 6}
    assert batch.real == [False, True, False]


def test_rows_are_read_from_no_device() -> None:
    """A tensor on the device "meta" has no values: reading its mask, as `bool` of a CUDA tensor does, is an error."""
    batch = three_samples()
    moved = move_data_to_device(batch, torch.device("meta"))
    assert moved.mask.device.type == moved.views[0].frames.device.type == "meta"
    for view, answer in (("original", "chosen"), ("original", "irrelevant"), ("clip", "chosen")):
        assert moved.rows(view, answer) == batch.rows(view, answer)
    assert moved.real == batch.real


def test_rows_travel_from_workers() -> None:
    batch = three_samples()
    for other in (pickle.loads(pickle.dumps(batch)), copy.copy(batch)):  # noqa: S301
        assert other.rows("original", "chosen") == {0: 0, 2: 7}
        assert other.real == [True, False, True]
