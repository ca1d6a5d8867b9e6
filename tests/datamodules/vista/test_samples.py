"""Which row of a policy's scores belongs to which sample."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import torch
from lightning.fabric.utilities import move_data_to_device

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import View

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


def test_a_term_compares_the_answers_of_the_samples_that_have_both() -> None:
    answers = {"chosen": "a", "rejected": "b"}
    views = [
        View(0, "original", FRAMES, "q", {"chosen": "a"}),  # row 0
        View(0, "video_negative", FRAMES, "q", {"chosen": "a"}),
        View(1, "original", FRAMES, "q", dict(answers)),  # rows 2 and 3
        View(2, "original", FRAMES, "q", {**answers, "irrelevant": "c"}),  # rows 4 to 6
        View(2, "video_negative", FRAMES, "q", {"chosen": "a"}),
        View(3, "original", FRAMES, "q", dict(answers)),  # masked
    ]
    batch = VistaBatch(["s0", "s1", "s2", "s3"], views, torch.tensor([True, True, True, False]))
    expected = {
        "supervised": ([0, 1, 2], [[0, 2, 4]]),
        # The rejected answer is in the place of the irrelevant one that sample 1 lacks.
        "response": ([1, 2], [[2, 4], [3, 5], [3, 6]]),
        "token": ([1, 2], [[2, 4], [3, 5]]),
        "video": ([0, 2], [[0, 4], [1, 7]]),
        "clip": ([], [[], []]),
    }
    for term, (samples, rows) in expected.items():
        assert batch.compared(term)[0] == samples
        assert batch.compared(term)[1].tolist() == rows
    # The rows travel to a device with the batch, where nobody reads them; a batch with another mask has its own.
    moved = move_data_to_device(batch, torch.device("meta"))
    assert moved.compared("response")[0] == [1, 2]
    assert moved.compared("response")[1].device.type == "meta"
    assert moved.compared("response")[1].shape == (3, 2)
    assert replace(batch, mask=torch.tensor([True, True, False, True])).compared("token")[1].tolist() == [
        [2, 8],
        [3, 9],
    ]
