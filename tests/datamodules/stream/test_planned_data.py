"""What every data module over shards has, on one that reads keys."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.stream.indexed_data import Split
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.planned_data import PlannedData, Selection
from datamodules.stream.recipe import Recipe, SampleRead
from tests.support.flow_harness import attached
from tests.support.shard_samples import flip_byte, sample, small_shards

COUNT = 23


class KeysAndDenominators(Recipe[Any]):
    """Batches of (keys, denominators)."""

    def make_sample(self, sample: SampleRead) -> str:
        return sample.entry.key

    def collate(self, samples: list[str | None], planned: PlannedBatch) -> tuple[list[str | None], dict[str, float]]:
        return samples, planned.denominators


class Keys(PlannedData[Any]):
    """Samples whose number is no multiple of five, each counted with its number."""

    schema: ClassVar[str] = "vidpref/vista"

    def __init__(self, paths: dict[Split, Any], flavour: str = "plain", **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "batch_size": 3,
            "num_workers": 0,
            "seed": 0,
            "window": 16,
            "on_bad_sample": "raise",
            "max_bad_samples": 10,
            "multiprocessing_context": None,
            "reader": None,
        }
        super().__init__(paths, **(defaults | settings))
        self.flavour = flavour
        self.checked: list[Split] = []

    def check(self, split: Split, index: Index) -> None:
        self.checked.append(split)

    def selection(self, split: Split) -> Selection:
        numbers = np.arange(len(self.index(split)))
        return Selection({"numbers": numbers, "all": numbers >= 0}, numbers[numbers % 5 != 0])

    def recipe(self, split: Split) -> KeysAndDenominators:
        return KeysAndDenominators()

    def identity(self) -> dict[str, Any]:
        return {"flavour": self.flavour}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    small_shards(folder)
    return str(folder / "train.index.json")


LOOP = SimpleNamespace(
    epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=1, processed=1))),
    max_batches=6,
)


def test_the_filter_holds_for_every_split_and_counts_may_be_numbers(shards: str) -> None:
    data = attached(Keys({"train": shards, "val": shards}))
    assert data.checked == ["train", "val"]
    expected = {f"s{number:03d}" for number in range(COUNT) if number % 5}
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batches = list(loader)
        assert {key for keys, _ in batches for key in keys} <= expected
        for keys, denominators in batches:
            assert denominators == {"numbers": float(sum(int(key[1:]) for key in keys)), "all": 3.0}
    assert data.index("train") is data.index("val"), "read once"


def test_a_verb_without_its_split_says_which_to_give(shards: str) -> None:
    with pytest.raises(ValueError, match=r"data\.train is not given; name the index file of the shards for `fit`"):
        attached(Keys({"train": None, "val": shards}))
    with pytest.raises(ValueError, match=r"Keys has no samples for `predict`"):
        attached(Keys({"train": shards, "val": None}), stage="predict")
    assert attached(Keys({"train": shards, "val": None})).val_dataloader() == []
    assert len(attached(Keys({"predict": shards}), stage="predict").predict_dataloader()) == 6


def test_parts_are_the_files_of_an_index(shards: str, tmp_path: Path) -> None:
    data = attached(Keys({"train": shards}, num_workers=0), stage="test")
    assert [len(part) for part in data.parts("train")] == [COUNT]
    with pytest.raises(ValueError, match="keys are unique"):
        Keys({"train": [shards, shards]}).index("train")


def test_the_state_is_where_the_stream_stands_and_what_its_samples_are(shards: str) -> None:
    data = attached(Keys({"train": shards}), fit_loop=LOOP, stage="fit_nothing")
    assert data.state_dict() == {}
    stream = iter(data.train_dataloader())
    batches = [next(stream) for _ in range(3)]
    state = data.state_dict()
    assert (state["consumed"], state["identity"]) == (9, {"flavour": "plain"})
    resumed = attached(Keys({"train": shards}), stage="fit_nothing")
    resumed.load_state_dict(state)
    following = next(iter(resumed.train_dataloader()))
    assert following == next(stream)
    assert following not in batches
    other = attached(Keys({"train": shards}, "sweet"), stage="fit_nothing")
    other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"cannot resume.*flavour was 'plain', is 'sweet'"):
        other.train_dataloader()
    other = attached(Keys({"train": shards}, seed=1), stage="fit_nothing")
    other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"cannot resume.*seed was 0, is 1"):
        other.train_dataloader()


def write_named(folder: Path, name: str, text: str = "x") -> str:
    """Shards of three samples with keys of the name's own."""
    write_shards([sample(f"{name}-{number}", text.encode()) for number in range(3)], folder / name)
    return str(folder / f"{name}.index.json")


def test_a_resume_on_other_content_says_in_which_data_set(tmp_path: Path) -> None:
    first, second, third = (write_named(tmp_path, name) for name in ("one", "two", "three"))

    def resume(paths: list[str], state: dict[str, Any]) -> None:
        other = attached(Keys({"train": paths}), stage="fit_nothing")
        other.load_state_dict(state)
        other.train_dataloader()

    data = attached(Keys({"train": [first, second]}), fit_loop=LOOP, stage="fit_nothing")
    next(iter(data.train_dataloader()))
    state = data.state_dict()
    resume([first, second], state)
    message = "cannot resume: the content of the training samples has changed: "
    again = "they are given in another order, "
    for paths, change in (([first, third], f"{third} is new; {second} is no longer given"), ([second, first], again)):
        with pytest.raises(ValueError, match=re.escape(message + change)):
            resume(paths, state)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    moved = write_named(tmp_path / "moved", "one")
    replaced = write_named(tmp_path, "two", "y")
    with pytest.raises(ValueError, match=re.escape(f"{message}{replaced} holds other samples (fingerprint was ")):
        resume([moved, replaced], state)
    older = {name: value for name, value in state.items() if name != "data_sets"}
    with pytest.raises(ValueError, match=re.escape(f"{message}{moved} or {replaced} holds other samples (finger")):
        resume([moved, replaced], older)


def test_setup_forgets_an_earlier_run(shards: str) -> None:
    data = attached(Keys({"train": shards, "val": None}), fit_loop=LOOP)
    first = next(iter(data.train_dataloader()))
    assert next(iter(data.train_dataloader())) != first, "a second pass goes on"
    attached(data)
    assert next(iter(data.train_dataloader())) == first


def test_skipped_samples_are_known_by_key(tmp_path: Path) -> None:
    index = small_shards(tmp_path)
    flip_byte(index, 1)
    data = attached(Keys({"val": str(tmp_path / "train.index.json")}, on_bad_sample="skip"), stage="validate")
    keys = [key for batch, _ in data.val_dataloader() for key in batch]
    assert keys[0] is None
    assert list(data.bad_samples) == ["s001"]


def test_a_step_that_was_begun_is_made_again_from_its_first_batch(shards: str) -> None:
    """Its first gradients are in no checkpoint."""
    steps = {"fit_loop": LOOP, "stage": "fit_nothing", "accumulate_grad_batches": 2}
    data = attached(Keys({"train": shards}), **steps)
    stream = iter(data.train_dataloader())
    batches = [next(stream) for _ in range(3)]
    resumed = attached(Keys({"train": shards}), **steps)
    resumed.load_state_dict(data.state_dict())
    assert next(iter(resumed.train_dataloader())) == batches[2]


def test_a_module_that_the_samples_are_not_for_is_refused(shards: str) -> None:
    class Choosy(Keys):
        required_module_method = ("needs", "VistaDPO and Supervised")

    with pytest.raises(ValueError, match="Choosy has samples for VistaDPO and Supervised, not for FlowRecorder"):
        attached(Choosy({"train": shards}))
