"""The reference on the event's clip while the policy sees the whole video: live, cached and remembered."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.reference.cache_writer import ReferenceCacheWriter
from callbacks.reference.live_sources import AdapterSource
from callbacks.reference.model import ReferenceModel
from callbacks.reference.probes import AnswerProbe
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import View
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.token_pooling import TokenPooling
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.supervised import Supervised
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.annotated_videos import FPS, numbers
from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.pairs_harness import attached, eleven_samples, pairs
from tests.support.paths import ROOT
from tests.support.preference_fakes import make_trainer
from tests.support.tiny_video_llava import save_tiny_video_llava

WEIGHTS = VistaWeights(video=0.0)
HELD = [8, 11, 15]  # three frames of the event, which takes 8 to 15


pytestmark = pytest.mark.filterwarnings("ignore:.*have no event")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_video_llava(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eleven_samples(tmp_path_factory.mktemp("shards"))


def vista(checkpoint: str, weights: VistaWeights = WEIGHTS, **settings: Any) -> VistaDPO:
    policy = VideoLlavaPolicy(checkpoint, lora=LoraSettings(r=2, alpha=8), num_frames=None, **settings)
    return VistaDPO(policy, partial(torch.optim.SGD, lr=0.05), weights=weights, schedule="constant", warmup=0.0)


def data(shards: Path, **settings: Any) -> VistaPairs:
    return pairs(shards, reference_frames=3, **settings)


def batch_for(module: VistaDPO, shards: Path, **settings: Any) -> VistaBatch:
    """Samples of which some have no event."""
    made = attached(data(shards, batch_size=11, **settings), lightning_module=module)
    return next(iter(made.train_dataloader()))


def seen_by_the_reference(batch: VistaBatch) -> dict[str, View]:
    return {batch.keys[view.sample]: view for view in batch.for_reference().views if view.name == "original"}


def test_the_reference_is_shown_the_events_frames_with_their_times(checkpoint: str, shards: Path) -> None:
    with pytest.warns(UserWarning, match=r"4 of 11 samples have no event: their reference sees the whole .*'s00'"):
        batch = batch_for(vista(checkpoint), shards)
    whole = {batch.keys[view.sample]: view for view in batch.views if view.name == "original"}
    seen = seen_by_the_reference(batch)
    assert numbers(seen["s01"].frames) == HELD
    assert seen["s01"].times is not None
    assert seen["s01"].times.tolist() == [(frame - 8) / FPS for frame in HELD]
    assert (seen["s01"].prompt, seen["s01"].answers) == (whole["s01"].prompt, whole["s01"].answers)
    assert numbers(whole["s01"].frames) == [0, 10, 20, 31]
    assert seen["s00"] is whole["s00"], "without an event both see the whole"
    assert [(view.sample, view.name) for view in batch.for_reference().views] == [
        (view.sample, view.name) for view in batch.views
    ]


def test_scores_are_of_these_frames_and_terms_and_gradients_of_both(checkpoint: str, shards: Path) -> None:
    module = vista(checkpoint)
    batch = batch_for(module, shards)
    module.policy.load()
    with torch.no_grad():
        batch.reference, _ = AdapterSource().scores(module, batch, "train")
        assert batch.encoded is None, "the policy's encoding is its own"
        row = batch.rows("original", "chosen")[batch.keys.index("s01")]
        view = next(view for view in batch.views if batch.keys[view.sample] == "s01" and view.name == "original")
        clip = replace(view.with_frames(seen_by_the_reference(batch)["s01"].frames), sample=0)
        whole = replace(view, sample=0)
        with module.policy.reference_mode():
            own = [module.policy.score(module.policy.encode([one])).log_probs[0] for one in (clip, whole)]
    torch.testing.assert_close(batch.reference.log_probs[row], own[0], rtol=1e-5, atol=1e-4)
    assert abs(own[0] - own[1]) > 1e-2
    policy = module.scores(batch)
    torch.testing.assert_close(policy.log_probs[row], own[1], rtol=1e-5, atol=1e-4)
    # A level whose views the reference shares is as it is without the option; the adapter is zero still.
    for name in ("clip", "clip_negative", "object"):
        rows = list(batch.rows(name, "chosen").values())  # type: ignore[arg-type]
        torch.testing.assert_close(policy.log_probs[rows], batch.reference.log_probs[rows], rtol=1e-5, atol=1e-4)
    terms = module.terms(batch)
    assert set(terms) == {"response", "clip", "object", "token"}
    place = terms["response"].samples.index(batch.keys.index("s01"))
    assert terms["response"].chosen_rewards is not None
    expected = module.beta * (own[1] - own[0])
    torch.testing.assert_close(terms["response"].chosen_rewards[place], expected, rtol=1e-4, atol=1e-4)
    divergence = module.policy.kl(batch.reference, policy)
    assert divergence[row] > 1e-3, "the token term compares distributions under two videos"
    sum(term.values.sum() for term in terms.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in module.trainable().values())


def test_the_video_term_and_a_method_without_reference_are_refused(checkpoint: str, shards: Path) -> None:
    made = attached(data(shards), lightning_module=vista(checkpoint, VistaWeights()))
    with pytest.raises(ValueError, match=r"data\.reference_frames .* the video term .* give weights\.video 0"):
        made.train_dataloader()
    supervised = Supervised(VideoLlavaPolicy(checkpoint, lora=LoraSettings(), num_frames=None))
    with pytest.raises(ValueError, match="reference_frames is 3, but Supervised compares with no reference"):
        attached(data(shards), lightning_module=supervised)
    with pytest.raises(ValueError, match="reference_frames"):
        pairs(shards, reference_frames=0)


def test_padding_keeps_the_references_encoding_apart_on_every_rank(checkpoint: str, shards: Path) -> None:
    """Else a rank whose samples have no event would make one forward of the tower less than the others."""
    module = vista(checkpoint)
    batch = batch_for(module, shards)
    alone = replace(batch, views=[view for view in batch.views if view.sample == 0], reference_views=[])
    assert alone.reference_apart
    assert alone.for_reference() is not alone
    plain = next(iter(attached(pairs(shards), lightning_module=module).train_dataloader()))
    assert plain.for_reference() is plain


def test_the_guard_watches_what_the_reference_is_shown_also_after_a_resume(checkpoint: str, shards: Path) -> None:
    batch = batch_for(vista(checkpoint), shards)
    event = batch.keys.index("s01")
    batch = replace(batch, mask=torch.arange(len(batch.keys)) == event)
    probe = AnswerProbe.of(batch).thinned()
    assert len(probe.kept.views[0].frames) == 3
    restored = AnswerProbe.load(probe.state() | {"key": "s01"})
    assert restored.kept.views[0].for_reference, "pooled as a clip is"
    assert torch.equal(restored.kept.views[0].frames, probe.kept.views[0].frames)


@pytest.mark.slow
def test_training_on_cached_or_remembered_scores_is_training_on_live_ones(
    checkpoint: str, shards: Path, tmp_path: Path
) -> None:
    def fit(reference: ReferenceModel) -> dict[str, torch.Tensor]:
        module = vista(checkpoint, token_pooling=TokenPooling(video=2))
        torch.manual_seed(0)
        trainer = make_trainer([reference], steps=8, default_root_dir=tmp_path)
        trainer.fit(module, data(shards, batch_size=3))  # two epochs
        return {name: parameter.detach() for name, parameter in module.trainable().items()}

    writer = ReferenceCacheWriter(str(tmp_path / "cache"))
    make_trainer([writer]).predict(vista(checkpoint, token_pooling=TokenPooling(video=2)), data(shards, batch_size=1))
    cache = str(tmp_path / "cache.index.json")
    live = fit(ReferenceModel(guard_every_n_steps=1))
    for other in (fit(ReferenceModel("cached", cache)), fit(ReferenceModel("remember"))):
        assert all(torch.allclose(live[name], other[name], atol=1e-5) for name in live)
    assert any(parameter.abs().max() > 1e-3 for name, parameter in live.items() if "lora_B" in name)
    plain = make_trainer([ReferenceModel("cached", cache)])
    with pytest.raises(ValueError, match="scores of other views: reference_frames was 3, is not there"):
        plain.fit(vista(checkpoint, token_pooling=TokenPooling(video=2)), pairs(shards))
    other = TokenPooling(video=2, object=2)
    with pytest.raises(ValueError, match=r"other views: pooled_tokens was .*object 1 x 1.* is .*object 2 x 2"):
        plain.fit(vista(checkpoint, token_pooling=other), data(shards))


@pytest.mark.slow
def test_the_ranks_of_a_sharded_model_train_as_one_process(tmp_path: Path) -> None:
    """Three steps on two samples, one a rank: the reference of one sees its event, that of the other the whole."""
    save_tiny_video_llava(tmp_path / "tiny")
    write_uneven_shards(tmp_path / "train", 2)
    weights = [f"--model.weights.{name}={weight}" for name, weight in vars(VistaWeights(1, 0, 0, 0, 1)).items()]
    sharded = [f"{ROOT}/configs/strategy/fsdp.yaml", "--trainer.devices=2", "--trainer.strategy.param_dtype=float32"]

    def run(name: str, *flags: str) -> list[dict[str, Any]]:
        more = [f"--trainer.default_root_dir={name}", "--trainer.max_epochs=3", "--model.policy.num_frames=null"]
        done = fit(tmp_path, *flags, *more, *weights, "--data.reference_frames=3", probe=f"{name}.jsonl")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 of 2 samples have no event" in done.stdout + done.stderr
        return steps(tmp_path / f"{name}.jsonl")

    alone, ranks = run("alone", "--data.batch_size=2"), run("ranks", *sharded, "--data.batch_size=1")
    assert len(alone) == len(ranks) == 3
    for name in ("loss", "norm"):
        assert [step[name] for step in ranks] == pytest.approx([step[name] for step in alone], rel=1e-4), name
