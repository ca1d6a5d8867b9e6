"""Caches that a run cannot use, refused before its first step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callbacks.reference.cache import ReferenceCache
from callbacks.reference.model import ReferenceModel
from datamodules.shards.index import Index
from lightning_modules.vista_dpo import VistaWeights
from tests.support.preference_fakes import FakePairs, make_batch, make_module, make_trainer
from tests.support.reference_caches import batches, fit_with, write_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_cache(tmp_path_factory.mktemp("cache"))


def test_other_views_are_refused(cache: str) -> None:
    with pytest.raises(ValueError, match="scores of other views: seed was 0, is 1"):
        fit_with(ReferenceModel("cached", cache), data=FakePairs(batches(), seed=1))


def test_negatives_that_change_are_refused(cache: str, tmp_path: Path) -> None:
    data = FakePairs(batches())
    data.resample_each_epoch = True
    with pytest.raises(ValueError, match="cannot be cached while"):
        fit_with(ReferenceModel("cached", cache), data=data)
    with pytest.raises(ValueError, match="cannot be cached while"):
        write_cache(tmp_path, data=data)


def test_a_missing_sample_is_refused_before_training(cache: str) -> None:
    module = make_module()
    with pytest.raises(ValueError, match="lacks 1 of 6 samples, the first is 's9'"):
        make_trainer([ReferenceModel("cached", cache)]).fit(module, FakePairs([*batches(), make_batch([9])]))
    assert module.policy.passes == 0


def test_what_was_skipped_may_be_missing_where_bad_samples_are_skipped(tmp_path: Path) -> None:
    unread = [make_batch([0, 1], masked=(1,))]
    data = FakePairs(unread)
    data.bad_samples = {"s1": "undecodable video"}
    cache = write_cache(tmp_path, data=data)
    assert Index.read(cache).made_from["skipped"] == ["s1"]
    run = FakePairs(unread)
    run.index_keys = ["s0", "s1"]
    with pytest.raises(ValueError, match="lacks 1 of 2 samples, the first is 's1'"):
        fit_with(ReferenceModel("cached", cache), data=run)
    run.on_bad_sample = "skip"
    fit_with(ReferenceModel("cached", cache), data=run)
    run.index_keys = ["s0", "s1", "s2"]
    with pytest.raises(ValueError, match="lacks 1 of 3 samples, the first is 's2'"):
        fit_with(ReferenceModel("cached", cache), data=run)


def test_a_missing_answer_or_missing_hidden_states_are_refused(tmp_path: Path) -> None:
    plain = write_cache(tmp_path, weights=VistaWeights(1, 0, 0, 0, 0))
    message = "no scores of video_negative/chosen; it has no hidden states of original/chosen, original/rejected"
    with pytest.raises(ValueError, match=message):
        fit_with(ReferenceModel("cached", plain))


def test_an_answer_that_one_sample_lacks_names_the_sample(cache: str) -> None:
    batch = make_batch([2])
    batch.views[0].name = "clip"
    with pytest.raises(ValueError, match=r"no score of clip/chosen of sample 's2'"):
        ReferenceCache(cache).scores(batch)


def test_another_tokenization_is_refused(cache: str) -> None:
    module, batch = make_module(), make_batch([2])
    module.policy.load()
    batch.views[0].answers["rejected"] = "quite blue"
    encoded = module.policy.encode(batch.views, module.kept_hidden())
    with pytest.raises(ValueError, match=r"original/rejected of sample 's2' has 4 hidden states, the policy has 10"):
        ReferenceCache(cache).scores(batch, encoded.hidden_answer)


def test_a_head_that_trains_is_refused_with_the_token_term(tmp_path: Path) -> None:
    cache = write_cache(tmp_path, lora=False)
    with pytest.raises(ValueError, match="the token term is on, but the output head trains"):
        fit_with(ReferenceModel("cached", cache), lora=False)


def test_scores_of_another_policy_are_refused(cache: str) -> None:
    with pytest.raises(ValueError, match=r"not this policy's.*sample 's0' had -.*over 8 tokens and has -"):
        fit_with(ReferenceModel("cached", cache), start=0.5, with_reference=True)


def test_a_cache_of_the_training_shards_does_not_serve_validation(cache: str, tmp_path: Path) -> None:
    val = [make_batch([7])]
    data = FakePairs(batches(), val=val)
    other = write_cache(tmp_path, "other", FakePairs([make_batch([7])]))
    with pytest.raises(ValueError, match=r'other views: the samples are others.*fingerprint was "train", is "val"'):
        fit_with(ReferenceModel("cached", cache), data=data)
    with pytest.raises(ValueError, match=r"none of .*train.index.json, .*other.index.json was made from the val"):
        fit_with(ReferenceModel("cached", [cache, other]), data=data)

    path = Path(other)
    content = json.loads(path.read_text())
    content["made_from"]["fingerprint"] = "val"
    path.write_text(json.dumps(content))
    fit_with(ReferenceModel("cached", [cache, other]), data=data)
