"""A run goes on with other training samples when that is allowed, and says from where."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.stream import planned_data
from datamodules.stream.changed_content import moved
from datamodules.stream.indexed_data import Split
from datamodules.stream.plan import TrainPlan
from datamodules.stream.planned_data import Selection
from tests.datamodules.stream import test_resumed_runs as resumed
from tests.datamodules.stream.test_planned_data import LOOP, Keys
from tests.support.flow_harness import attached
from tests.support.shard_samples import sample


def write(folder: Path, keys: list[str], text: str = "x") -> str:
    folder.mkdir(exist_ok=True)
    write_shards([sample(key, text.encode()) for key in keys], folder / "train", samples_per_shard=50)
    return str(folder / "train.index.json")


def plan(samples: int, seed: int = 0, **settings: Any) -> TrainPlan:
    return TrainPlan(shard_counts=[samples], seed=seed, **{"batch_size": 4, "accumulation": 2, **settings})


def state_of(plan: TrainPlan, consumed: int, **more: Any) -> dict[str, Any]:
    sizes = {"origin": 0, "global_batch": plan.global_batch, "step_samples": plan.step_samples}
    return {"consumed": consumed, "fingerprint": "old", "bad_samples": {}, **sizes, **plan.identity(), **more}


@pytest.mark.parametrize(
    ("before", "consumed", "now", "after"),
    [
        (1000, 1504, 990, 990 + 498),  # 504 of 1000 are 498.96 of 990
        (1000, 1504, 2000, 2000 + 1008),
        (1000, 2000, 990, 1980),
        (1000, 0, 990, 0),
    ],
)
def test_the_same_share_of_the_epoch_is_over(before: int, consumed: int, now: int, after: int) -> None:
    index: Any = SimpleNamespace(fingerprint="new", positions={"there": 0})
    bad = {"there": "altered", "gone": "too long"}
    state, message = moved(state_of(plan(before), consumed, bad_samples=bad), plan(now), index)
    assert (state["consumed"], state["origin"]) == (after, after)
    assert (state["fingerprint"], state["kept"]) == ("new", plan(now).identity()["kept"])
    assert state["bad_samples"] == {"there": "altered"}
    epoch, place = divmod(after, now)
    assert f"at {consumed % before} of {before} samples of epoch {epoch} and goes on at {place} of {now}:" in message


def test_replaced_samples_leave_the_place_as_it_is() -> None:
    index: Any = SimpleNamespace(fingerprint="new", positions={})
    state, message = moved(state_of(plan(1000), 1504, origin=8), plan(1000), index)
    assert (state["consumed"], state["origin"], state["fingerprint"]) == (1504, 8, "new")
    assert "goes on with sample 505 of 1000 of epoch 1, as it would have before" in message


def test_a_run_goes_on_with_fewer_samples_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(planned_data, "rank_zero_warn", messages.append)
    keys = [f"s{number:03d}" for number in range(25)]  # 20 are read
    data = attached(Keys({"train": write(tmp_path / "a", keys)}, batch_size=2), fit_loop=LOOP, stage="fit_nothing")
    stream = iter(data.train_dataloader())
    for _ in range(5):
        next(stream)
    state = data.state_dict()
    assert state["consumed"] == 10
    fewer = write(tmp_path / "b", keys[:20])  # 16 are read

    def going_on(**settings: Any) -> Keys:
        other = attached(Keys({"train": fewer}, batch_size=2, **settings), fit_loop=LOOP, stage="fit_nothing")
        other.load_state_dict(state)
        return other

    with pytest.raises(ValueError, match=r"cannot resume: .*go on with these by --data\.allow_changed true"):
        going_on().train_dataloader()
    with pytest.raises(ValueError, match=r"seed was 0, is 1"):
        going_on(allow_changed=True, seed=1).train_dataloader()
    loader = going_on(allow_changed=True).train_dataloader()
    assert (loader.consumed, loader.plan.origin) == (8, 8)
    (line,) = messages[-1:]
    assert re.search(r"has changed: \S+b\S+ holds other samples|is new", line)
    assert "was at 10 of 20 samples of epoch 0 and goes on at 8 of 16" in line
    fresh = attached(Keys({"train": fewer}, batch_size=2), fit_loop=LOOP, stage="fit_nothing").train_dataloader()
    batches = [keys for _, (keys, _) in zip(range(8), fresh, strict=False)]
    assert [keys for keys, _ in loader][:4] == batches[4:], "the second half of the new order"
    assert going_on(allow_changed=True).resume_faults(state) == []
    assert len(going_on().resume_faults(state)) == 1


def test_nothing_is_said_or_moved_where_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_data, "rank_zero_warn", lambda _: pytest.fail("said"))
    path = write(tmp_path / "a", [f"s{number:03d}" for number in range(25)])
    data = attached(Keys({"train": path}, batch_size=2), fit_loop=LOOP, stage="fit_nothing")
    next(iter(data.train_dataloader()))
    other = attached(Keys({"train": path}, batch_size=2, allow_changed=True), fit_loop=LOOP, stage="fit_nothing")
    other.load_state_dict(data.state_dict())
    loader = other.train_dataloader()
    assert (loader.consumed, loader.plan.origin) == (2, 0)


class Fewer(resumed.Numbers):
    """All samples that there are."""

    #: Under this name its state is in the checkpoint.
    __qualname__ = "Numbers"

    def __init__(self, shards: str, batch_size: int = 2) -> None:
        super().__init__(shards, batch_size)
        self.allow_changed = True

    def check(self, split: Split, index: Index) -> None:
        assert len(index) == 7

    def selection(self, split: Split) -> Selection:
        return Selection({}, np.arange(7))


def test_a_run_with_fewer_samples_ends_after_as_many_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"s{number:03d}" for number in range(9)]
    run = resumed.Run(tmp_path / "run", write(tmp_path / "nine", keys), every=1, accumulation=1)
    run.start(steps=6)
    monkeypatch.setattr(resumed, "Numbers", Fewer)
    monkeypatch.setattr(planned_data, "rank_zero_warn", lambda _: None)
    run.shards = write(tmp_path / "seven", keys[:7])
    trace = run.start()
    # Twelve of 9 samples an epoch are 7 + 2 of 7 samples an epoch: one step within the second of three epochs of three.
    assert list(trace.keys) == [7, 8, 9, 10, 11]
    order = TrainPlan(shard_counts=[7], batch_size=2, origin=9)
    for number, numbers in enumerate(trace.keys.values()):
        positions = [slot.position for slot in order.batch(9 + 2 * number).slots]
        assert numbers == [f"s{position}" for position in positions]


def test_labels_of_changed_samples_are_others_too_and_settings_are_not(tmp_path: Path) -> None:
    class Labelled(Keys):
        def identity(self) -> dict[str, Any]:
            return {"labels": self.index("train").fingerprint, "flavour": self.flavour}

        def origin_of(self, name: str) -> str:
            return ": of the label files" if name == "labels" else ""

    keys = [f"s{number:03d}" for number in range(25)]
    data = attached(Labelled({"train": write(tmp_path / "a", keys)}), fit_loop=LOOP, stage="fit_nothing")
    next(iter(data.train_dataloader()))
    state, other = data.state_dict(), write(tmp_path / "b", keys, "y")

    def go_on(**settings: Any) -> None:
        changed = attached(Labelled({"train": other}, **settings), fit_loop=LOOP, stage="fit_nothing")
        changed.load_state_dict(state)
        changed.train_dataloader()

    with pytest.warns(UserWarning, match="goes on with sample 4 of 20 of epoch 0"):
        go_on(allow_changed=True)
    with pytest.raises(ValueError, match=r"\(flavour was 'plain', is 'sweet'\)"):
        go_on(allow_changed=True, flavour="sweet")
