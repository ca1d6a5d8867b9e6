"""A cache of reference scores: what is in it, and training on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from callbacks.reference.cache import SUFFIX, ReferenceCache
from callbacks.reference.model import ReferenceModel
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from lightning_modules.vista_dpo import VistaWeights
from tests.support.preference_fakes import ANSWERS, FakePairs, make_batch, make_module, make_trainer
from tests.support.reference_caches import batches, fit_with, write_cache

NO_TOKEN = VistaWeights(clip=0, object=0, token=0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_cache(tmp_path_factory.mktemp("cache"))


def test_the_cache_holds_every_sample_once_and_says_what_it_is_made_from(cache: str) -> None:
    index = Index.read(cache, "vidpref/side")
    assert [entry.key for entry in index.entries] == ["s0", "s1", "s2", "s3", "s4"], "padding is left out"
    assert index.made_from["fingerprint"] == "train"
    assert index.made_from["seed"] == 0
    assert index.made_from["policy"]["class"] == "TinyPolicy"
    assert index.made_from["policy"]["lora"] is True
    names = [f"original/{name}" for name in sorted(ANSWERS)] + ["video_negative/chosen"]
    assert index.made_from["answers"] == names
    assert index.made_from["hidden"] == ["original/chosen", "original/rejected"]
    assert set(index.entries[0].members) == {SUFFIX}


def test_members_hold_what_the_index_says(cache: str) -> None:
    from safetensors.torch import load

    index = Index.read(cache)
    tensors = load(SampleReader(index).read(1)[SUFFIX])
    facts = index.entries[1].facts["answers"]
    assert tensors["log_probs"].tolist() == [value for value, _ in facts.values()]
    assert tensors["num_tokens"].tolist() == [len(ANSWERS[name.split("/")[1]]) for name in facts]
    assert len(tensors["hidden"]) == len(ANSWERS["chosen"]) + len(ANSWERS["rejected"])
    assert tensors["hidden_answer"].bincount().tolist() == [len(ANSWERS["chosen"]), len(ANSWERS["rejected"])]


def test_cached_scores_equal_live_ones(cache: str) -> None:
    module = make_module()
    module.policy.load()
    batch = make_batch([3, 0, 4], masked=(1,))
    with torch.no_grad():
        live = module.scores(batch)
    read = ReferenceCache(cache).scores(batch, batch.encoded.hidden_answer)
    real = [row for row, view in enumerate([v for v in batch.views for _ in v.answers]) if view.sample != 1]
    assert torch.equal(read.log_probs[real], live.log_probs[real])
    assert torch.equal(read.num_tokens[real], live.num_tokens[real])
    places = torch.isin(live.hidden_answer, torch.tensor(real))
    assert torch.equal(read.hidden[places], live.hidden[places])
    assert read.hidden.shape == live.hidden.shape
    assert read.hidden[~places].abs().max() == 0.0, "a masked sample has no score, and counts nowhere"


@pytest.mark.parametrize("weights", [VistaWeights(clip=0, object=0), NO_TOKEN])
def test_training_on_cached_scores_is_training_on_live_ones(cache: str, weights: VistaWeights) -> None:
    live, cached = (
        fit_with(ReferenceModel(), weights=weights),
        fit_with(ReferenceModel("cached", cache), weights=weights),
    )
    assert all(torch.equal(live[name], cached[name]) for name in live)


def test_a_run_can_go_on_with_a_cache(cache: str, tmp_path: Path) -> None:
    trainer = make_trainer([ReferenceModel()], steps=2)
    trainer.fit(make_module(), FakePairs(batches()))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    trainer = make_trainer([ReferenceModel("cached", cache)], steps=3)
    trainer.fit(make_module(), FakePairs(batches()), ckpt_path=tmp_path / "run.ckpt")
    assert trainer.global_step == 3


def test_full_fine_tuning_can_use_a_cache_without_the_token_term(tmp_path: Path) -> None:
    cache = write_cache(tmp_path, lora=False, weights=NO_TOKEN)
    live = fit_with(ReferenceModel("copy"), lora=False, weights=NO_TOKEN)
    cached = fit_with(ReferenceModel("cached", cache), lora=False, weights=NO_TOKEN)
    assert all(torch.equal(live[name], cached[name]) for name in live)


def test_a_whole_batch_of_padding_still_has_scores(cache: str) -> None:
    module = make_module()
    module.policy.load()
    batch = make_batch([0, 1], masked=(0, 1), total=1)
    with torch.no_grad():
        live = module.scores(batch)
        batch.reference = ReferenceCache(cache).scores(batch, batch.encoded.hidden_answer)
        terms = module.terms(batch)
    assert batch.reference.hidden.shape == live.hidden.shape
    assert all(len(term.samples) == 0 for term in terms.values())


def test_small_shards_are_joined_in_order(tmp_path: Path) -> None:
    index = Index.read(write_cache(tmp_path, samples_per_shard=2))
    assert index.shard_counts == [2, 2, 1]
    assert [entry.key for entry in index.entries] == ["s0", "s1", "s2", "s3", "s4"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".json") == ["train.index.json"]
