"""The writer of cached reference scores: continuing, complete caches, neighbours, several ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.loss_weights import Constant, LossWeights
from callbacks.reference.cache_writer import ReferenceCacheWriter
from callbacks.reference.model import ReferenceModel
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from lightning_modules.vista_dpo import VistaWeights
from tests.support.preference_fakes import FakePairs, make_module, make_trainer
from tests.support.reference_caches import batches, fit_with, write_cache
from tests.support.two_ranks import LeaveGroup, two_ranks


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_cache(tmp_path_factory.mktemp("cache"))


class Interrupted(Callback):
    """Ends the process as Ctrl-C does, before the second batch."""

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 1:
            raise KeyboardInterrupt


def interrupted(folder: Path, **settings: Any) -> None:
    trainer = make_trainer([ReferenceCacheWriter(str(folder / "train"), **settings), Interrupted()])
    with pytest.raises(SystemExit):
        trainer.predict(make_module(), FakePairs(batches()))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_neighbours_are_kept(tmp_path: Path) -> None:
    """Training shards, and a finished cache, whose names begin as the cache's."""
    other = Index.read(write_cache(tmp_path, "train-part3")).fingerprint
    for name in ("train-part1-000000.tar", "train-part1.index.json", "train-part2-000000.tar", "train-part"):
        (tmp_path / name).write_text("precious")
    before = contents(tmp_path)
    interrupted(tmp_path)
    write_cache(tmp_path)
    write_cache(tmp_path)
    assert before.items() <= contents(tmp_path).items()
    assert Index.read(tmp_path / "train-part3.index.json").fingerprint == other
    assert set(contents(tmp_path)) - set(before) == {"train-000000.tar", "train.index.json"}


def test_a_complete_cache_is_said_to_be_there_and_nothing_is_scored(tmp_path: Path, monkeypatch: Any) -> None:
    path = write_cache(tmp_path)
    messages: list[str] = []
    monkeypatch.setattr("callbacks.writers.base.rank_zero_info", messages.append)
    before, module = contents(tmp_path), make_module()
    (tmp_path / "train.parts").mkdir()
    (tmp_path / f"train.parts/{'0' * 32}.index.json").write_text("{")  # a kill left it, after the index was there
    make_trainer([ReferenceCacheWriter(str(tmp_path / "train"))]).predict(module, FakePairs(batches()))
    assert module.policy.passes == 0
    assert messages == [f"{path}: 5 of 5 reference scores are there already", f"reference scores: {path}"]
    assert contents(tmp_path) == before
    assert not (tmp_path / "train.parts").exists()


def test_an_interrupted_pass_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_cache(whole, samples_per_shard=2)
    interrupted(broken, samples_per_shard=2)
    assert [path.name for path in broken.iterdir()] == ["train.parts"]
    module = make_module()
    make_trainer([ReferenceCacheWriter(str(broken / "train"), 2)]).predict(module, FakePairs(batches()))
    assert module.policy.passes == 2, "of three batches, the first is not scored again"
    assert contents(broken) == contents(whole)


def test_a_cache_of_something_else_is_neither_continued_nor_replaced(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(ValueError, match=r"train\.parts was made with other settings: seed was 0, is 1; .*delete"):
        write_cache(tmp_path, data=FakePairs(batches(), seed=1))
    write_cache(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"train\.index\.json was made with other settings: answers was"):
        write_cache(tmp_path, weights=VistaWeights(1, 0, 0, 0, 0))
    assert contents(tmp_path) == before


def test_training_shards_of_the_caches_name_are_refused_and_kept(tmp_path: Path) -> None:
    write_shards([("a", {"jpg.jpg": b"x"})], tmp_path / "train", "vidpref/side", made_from={"fingerprint": "mine"})
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r'the samples are others, or .* their fingerprint was "mine", is "train"'):
        write_cache(tmp_path)
    assert contents(tmp_path) == before


def test_a_cache_that_an_earlier_release_wrote_is_read_and_complete(cache: str, tmp_path: Path) -> None:
    """Its shards were called ``train-part-00000-000000-000000.tar``."""
    old = tmp_path / "train-part-00000-000000-000000.tar"
    old.write_bytes(Path(cache).with_name("train-000000.tar").read_bytes())
    content = json.loads(Path(cache).read_text())
    content["shards"][0]["name"] = old.name
    content["made_from"]["skipped"] = []
    (tmp_path / "train.index.json").write_text(json.dumps(content))
    before = contents(tmp_path)
    write_cache(tmp_path)
    assert contents(tmp_path) == before
    fit_with(ReferenceModel("cached", str(tmp_path / "train.index.json")))


def test_scores_of_replaced_base_weights_are_not_mixed(tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"

    def scored(content: bytes, *more: Callback) -> None:
        base.write_bytes(content)
        module = make_module()
        module.policy.path = str(base)
        trainer = make_trainer([ReferenceCacheWriter(str(tmp_path / "train")), *more])
        trainer.predict(module, FakePairs(batches()))

    with pytest.raises(SystemExit):
        scored(b"one", Interrupted())
    with pytest.raises(ValueError, match=r"train\.parts was .*the files that policy\.path names have been replaced"):
        scored(b"two")
    scored(b"one")
    with pytest.raises(ValueError, match=r"train\.index\.json was .*the files that policy\.path names have been repl"):
        scored(b"two")
    scored(b"one")
    index = tmp_path / "train.index.json"
    fit_with(ReferenceModel("cached", str(index)))

    # As an earlier release wrote it.
    made = json.loads(index.read_text())
    del made["made_from"]["policy"]["contents"]
    index.write_text(json.dumps(made))
    with pytest.warns(UserWarning, match=r"did not record the content of the files in policy\.path"):
        scored(b"two")
    fit_with(ReferenceModel("cached", str(index)))


def test_a_term_that_comes_late_is_refused(tmp_path: Path) -> None:
    late, writer = LossWeights({"response": Constant(1.0)}), ReferenceCacheWriter(str(tmp_path / "train"))
    weights = VistaWeights(0, 1, 0, 0, 0)
    with pytest.raises(ValueError, match="name ReferenceCacheWriter last"):
        make_trainer([writer, late]).predict(make_module(weights=weights), FakePairs(batches()))
    other = ReferenceCacheWriter(str(tmp_path / "other"))
    make_trainer([late, other]).predict(make_module(weights=weights), FakePairs(batches()))
    assert "original/irrelevant" in Index.read(other.index).made_from["answers"]


@pytest.mark.slow
def test_several_ranks_write_one_cache(tmp_path: Path) -> None:
    alone = Index.read(write_cache(tmp_path, "alone"))
    writer = ReferenceCacheWriter(str(tmp_path / "both"), samples_per_shard=1)
    with two_ranks() as settings:
        trainer = make_trainer([writer, LeaveGroup()], **settings)
        trainer.predict(make_module(), FakePairs(batches(), ranks=2), return_predictions=False)
    both = Index.read(tmp_path / "both.index.json")
    assert both.made_from == alone.made_from
    assert {entry.key: entry.facts for entry in both.entries} == {entry.key: entry.facts for entry in alone.entries}
    assert len(list(tmp_path.glob("both*.json"))) == 1
