from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.loss_weights import Constant, LossWeights
from callbacks.reference.cache import SUFFIX, ReferenceCache
from callbacks.reference.cache_writer import ReferenceCacheWriter
from callbacks.reference.model import ReferenceModel
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.vista.samples import VistaBatch
from lightning_modules.vista_dpo import VistaWeights
from tests.support.preference_fakes import ANSWERS, FakePairs, make_batch, make_module, make_trainer

NO_TOKEN = VistaWeights(clip=0, object=0, token=0)


def batches() -> list[VistaBatch]:
    return [make_batch([0, 1]), make_batch([2, 3]), make_batch([4, 0], masked=(1,))]


def predict(folder: Path, name: str = "train", data: FakePairs | None = None, **module: Any) -> str:
    writer = ReferenceCacheWriter(str(folder / name), samples_per_shard=module.pop("samples_per_shard", 256))
    trainer = make_trainer([writer])
    trainer.predict(make_module(**module), data or FakePairs(batches()))
    return str(folder / f"{name}.index.json")


def fit(reference: ReferenceModel, steps: int = 5, data: FakePairs | None = None, **module: Any) -> dict[str, Any]:
    model = make_module(**module)
    trainer = make_trainer([reference], steps=steps)
    trainer.fit(model, data or FakePairs(batches()))
    return {name: one.detach().clone() for name, one in model.named_parameters()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return predict(tmp_path_factory.mktemp("cache"))


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
    live, cached = fit(ReferenceModel(), weights=weights), fit(ReferenceModel("cached", cache), weights=weights)
    assert all(torch.equal(live[name], cached[name]) for name in live)


def test_a_run_can_go_on_with_a_cache(cache: str, tmp_path: Path) -> None:
    trainer = make_trainer([ReferenceModel()], steps=2)
    trainer.fit(make_module(), FakePairs(batches()))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    trainer = make_trainer([ReferenceModel("cached", cache)], steps=3)
    trainer.fit(make_module(), FakePairs(batches()), ckpt_path=tmp_path / "run.ckpt")
    assert trainer.global_step == 3


def test_full_fine_tuning_can_use_a_cache_without_the_token_term(tmp_path: Path) -> None:
    cache = predict(tmp_path, lora=False, weights=NO_TOKEN)
    live = fit(ReferenceModel("copy"), lora=False, weights=NO_TOKEN)
    cached = fit(ReferenceModel("cached", cache), lora=False, weights=NO_TOKEN)
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
    index = Index.read(predict(tmp_path, samples_per_shard=2))
    assert index.shard_counts == [2, 2, 1]
    assert [entry.key for entry in index.entries] == ["s0", "s1", "s2", "s3", "s4"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".json") == ["train.index.json"]


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
    other = Index.read(predict(tmp_path, "train-part3")).fingerprint
    for name in ("train-part1-000000.tar", "train-part1.index.json", "train-part2-000000.tar", "train-part"):
        (tmp_path / name).write_text("precious")
    before = contents(tmp_path)
    interrupted(tmp_path)
    predict(tmp_path)
    predict(tmp_path)
    assert before.items() <= contents(tmp_path).items()
    assert Index.read(tmp_path / "train-part3.index.json").fingerprint == other
    assert set(contents(tmp_path)) - set(before) == {"train-000000.tar", "train.index.json"}


def test_a_complete_cache_is_said_to_be_there_and_nothing_is_scored(tmp_path: Path, monkeypatch: Any) -> None:
    path = predict(tmp_path)
    said: list[str] = []
    monkeypatch.setattr("callbacks.writers.base.rank_zero_info", said.append)
    before, module = contents(tmp_path), make_module()
    (tmp_path / "train.parts").mkdir()
    (tmp_path / f"train.parts/{'0' * 32}.index.json").write_text("{")  # a kill left it, after the index was there
    make_trainer([ReferenceCacheWriter(str(tmp_path / "train"))]).predict(module, FakePairs(batches()))
    assert module.policy.passes == 0
    assert said == [f"{path}: 5 of 5 reference scores are there already", f"reference scores: {path}"]
    assert contents(tmp_path) == before
    assert not (tmp_path / "train.parts").exists()


def test_an_interrupted_pass_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    predict(whole, samples_per_shard=2)
    interrupted(broken, samples_per_shard=2)
    assert [path.name for path in broken.iterdir()] == ["train.parts"]
    module = make_module()
    make_trainer([ReferenceCacheWriter(str(broken / "train"), 2)]).predict(module, FakePairs(batches()))
    assert module.policy.passes == 2, "of three batches, the first is not scored again"
    assert contents(broken) == contents(whole)


def test_a_cache_of_something_else_is_neither_continued_nor_replaced(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(ValueError, match=r"train\.parts was made with other settings: seed was 0, is 1; .*delete"):
        predict(tmp_path, data=FakePairs(batches(), seed=1))
    predict(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"train\.index\.json was made with other settings: answers was"):
        predict(tmp_path, weights=VistaWeights(1, 0, 0, 0, 0))
    assert contents(tmp_path) == before


def test_training_shards_of_the_caches_name_are_refused_and_kept(tmp_path: Path) -> None:
    write_shards([("a", {"jpg.jpg": b"x"})], tmp_path / "train", "vidpref/side", made_from={"fingerprint": "mine"})
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r'the samples are others, or .* their fingerprint was "mine", is "train"'):
        predict(tmp_path)
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
    predict(tmp_path)
    assert contents(tmp_path) == before
    fit(ReferenceModel("cached", str(tmp_path / "train.index.json")))


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
    fit(ReferenceModel("cached", str(index)))

    # As an earlier release wrote it.
    made = json.loads(index.read_text())
    del made["made_from"]["policy"]["contents"]
    index.write_text(json.dumps(made))
    with pytest.warns(UserWarning, match=r"did not record the content of the files in policy\.path"):
        scored(b"two")
    fit(ReferenceModel("cached", str(index)))


def test_a_term_that_comes_late_is_refused(tmp_path: Path) -> None:
    late, writer = LossWeights({"response": Constant(1.0)}), ReferenceCacheWriter(str(tmp_path / "train"))
    weights = VistaWeights(0, 1, 0, 0, 0)
    with pytest.raises(ValueError, match="name ReferenceCacheWriter last"):
        make_trainer([writer, late]).predict(make_module(weights=weights), FakePairs(batches()))
    other = ReferenceCacheWriter(str(tmp_path / "other"))
    make_trainer([late, other]).predict(make_module(weights=weights), FakePairs(batches()))
    assert "original/irrelevant" in Index.read(other.index).made_from["answers"]


# Refused


def test_other_views_are_refused(cache: str) -> None:
    with pytest.raises(ValueError, match="scores of other views: seed was 0, is 1"):
        fit(ReferenceModel("cached", cache), data=FakePairs(batches(), seed=1))


def test_negatives_that_change_are_refused(cache: str, tmp_path: Path) -> None:
    data = FakePairs(batches())
    data.resample_each_epoch = True
    with pytest.raises(ValueError, match="cannot be cached while"):
        fit(ReferenceModel("cached", cache), data=data)
    with pytest.raises(ValueError, match="cannot be cached while"):
        predict(tmp_path, data=data)


def test_a_missing_sample_is_refused_before_training(cache: str) -> None:
    module = make_module()
    with pytest.raises(ValueError, match="lacks 1 of 6 samples, the first is 's9'"):
        make_trainer([ReferenceModel("cached", cache)]).fit(module, FakePairs([*batches(), make_batch([9])]))
    assert module.policy.passes == 0


def test_what_was_skipped_may_be_missing_where_bad_samples_are_skipped(tmp_path: Path) -> None:
    unread = [make_batch([0, 1], masked=(1,))]
    data = FakePairs(unread)
    data.bad_samples = {"s1": "undecodable video"}
    cache = predict(tmp_path, data=data)
    assert Index.read(cache).made_from["skipped"] == ["s1"]
    run = FakePairs(unread)
    run.index_keys = ["s0", "s1"]
    with pytest.raises(ValueError, match="lacks 1 of 2 samples, the first is 's1'"):
        fit(ReferenceModel("cached", cache), data=run)
    run.on_bad_sample = "skip"
    fit(ReferenceModel("cached", cache), data=run)
    run.index_keys = ["s0", "s1", "s2"]
    with pytest.raises(ValueError, match="lacks 1 of 3 samples, the first is 's2'"):
        fit(ReferenceModel("cached", cache), data=run)


def test_a_missing_answer_or_missing_hidden_states_are_refused(tmp_path: Path) -> None:
    plain = predict(tmp_path, weights=VistaWeights(1, 0, 0, 0, 0))
    message = "no scores of video_negative/chosen; it has no hidden states of original/chosen, original/rejected"
    with pytest.raises(ValueError, match=message):
        fit(ReferenceModel("cached", plain))


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
    cache = predict(tmp_path, lora=False)
    with pytest.raises(ValueError, match="the token term is on, but the output head trains"):
        fit(ReferenceModel("cached", cache), lora=False)


def test_scores_of_another_policy_are_refused(cache: str) -> None:
    with pytest.raises(ValueError, match=r"not this policy's.*sample 's0' had -.*over 8 tokens and has -"):
        fit(ReferenceModel("cached", cache), start=0.5, with_reference=True)


def test_a_cache_of_the_training_shards_does_not_serve_validation(cache: str, tmp_path: Path) -> None:
    val = [make_batch([7])]
    data = FakePairs(batches(), val=val)
    other = predict(tmp_path, "other", FakePairs([make_batch([7])]))
    with pytest.raises(ValueError, match=r'other views: the samples are others.*fingerprint was "train", is "val"'):
        fit(ReferenceModel("cached", cache), data=data)
    with pytest.raises(ValueError, match=r"none of .*train.index.json, .*other.index.json was made from the val"):
        fit(ReferenceModel("cached", [cache, other]), data=data)

    path = Path(other)
    content = json.loads(path.read_text())
    content["made_from"]["fingerprint"] = "val"
    path.write_text(json.dumps(content))
    fit(ReferenceModel("cached", [cache, other]), data=data)


@pytest.mark.slow
def test_several_ranks_write_one_cache(tmp_path: Path) -> None:
    alone = Index.read(predict(tmp_path, "alone"))
    writer = ReferenceCacheWriter(str(tmp_path / "both"), samples_per_shard=1)
    trainer = make_trainer([writer], strategy="ddp_spawn", devices=2, use_distributed_sampler=False)
    trainer.predict(make_module(), FakePairs(batches(), ranks=2), return_predictions=False)
    both = Index.read(tmp_path / "both.index.json")
    assert both.made_from == alone.made_from
    assert {one.key: one.facts for one in both.entries} == {one.key: one.facts for one in alone.entries}
    assert len(list(tmp_path.glob("both*.json"))) == 1
