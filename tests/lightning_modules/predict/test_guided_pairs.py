"""Pairs of real videos on a tiny Wan: what is in a sample, and that it depends on nothing but its key and the seed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from datamodules.dense.facts import pair_sample_facts
from datamodules.dense.rows import PairRow
from datamodules.stream.predict_outputs import WrittenSample, differences
from datamodules.video.codec import decode_frames, encode_mp4
from datamodules.video.optical_flow import DisFlow, RaftFlow
from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict.flow_sampler import seeded_noise
from lightning_modules.predict.guided_sampler import GuidedSampler, guided_latents
from lightning_modules.predict.noise_level import MotionAdaptiveEta
from tests.support.predict_fakes import MemoryVideos, trainer_with
from tests.support.tiny_wan import random_video, write_tiny_wan

VIDEOS = {key: random_video(5, 16, 16, seed=number) for number, key in enumerate(["a", "part/b", "c"])}
DATA = MemoryVideos(VIDEOS)
TRAINER = trainer_with([])
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
FEW = {"num_steps": 4, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> WanPolicy:
    policy = WanPolicy(str(write_tiny_wan(tmp_path_factory.mktemp("wan"))), prompt_length=32)
    policy.load()
    return policy


@pytest.fixture(scope="module")
def make(policy: WanPolicy) -> Callable[..., GuidedSampler]:
    def made(**settings: Any) -> GuidedSampler:
        module = GuidedSampler(policy, **{**FEW, **settings})
        module.trainer = TRAINER
        return module

    return made


def pairs(
    module: GuidedSampler, keys: list[str], data: MemoryVideos = DATA, masked: Collection[str] = ()
) -> dict[str, Any]:
    with torch.no_grad():
        return {one.key: one for one in module.predict_step(data.batch(keys, masked), 0)}


def row_of(sample: WrittenSample) -> PairRow:
    return PairRow.from_json(json.loads(sample.members["json"]))


def latents_of(sample: WrittenSample) -> dict[str, Tensor]:
    return load(sample.members["latents.safetensors"])


@pytest.fixture(scope="module")
def sample(make: Callable[..., GuidedSampler]) -> WrittenSample:
    return pairs(make(store_clean=True), ["part/b"])["part/b"]


def test_a_pair_says_where_it_comes_from(sample: WrittenSample, policy: WanPolicy) -> None:
    row = row_of(sample)
    assert row.faults() == []
    assert pair_sample_facts("part/b", row.to_json(), sample.members.keys())
    assert (row.video_id, row.prompt, row.source) == ("video-part/b", "a pattern called part/b", "made up")
    assert (row.kind, row.latent_shape) == ("structural", (4, 2, 2, 2))
    assert 0.65 <= row.eta <= 0.8
    assert row.latent_space == policy.latent_space
    wanted = {"steps": len(guided_sigmas(4, row.eta)) - 1, "shift": 1.0, "guidance_scale": 2.0, "adapter": None}
    assert {name: row.sampler[name] for name in wanted} == wanted


def test_a_pair_holds_what_denoising_ended_on(sample: WrittenSample, policy: WanPolicy) -> None:
    stored, row = latents_of(sample), row_of(sample)
    assert set(stored) == {"first", "second", "clean"}
    assert not torch.equal(stored["first"], stored["second"])
    torch.testing.assert_close(stored["clean"], policy.encode_video([VIDEOS["part/b"]])[0], atol=0, rtol=0)
    torch.testing.assert_close(
        load(sample.members["prompt.safetensors"])["embeds"], policy.encode_prompt([row.prompt])[0]["embeds"]
    )
    for name in ("first", "second"):
        shown = policy.decode_video(stored[name][None])[0]
        assert shown.shape == VIDEOS["part/b"].shape
        assert sample.members[f"{name}.mp4"] == encode_mp4(shown, row.video.fps)


def test_both_start_at_eta_from_noise_of_their_own_seed(
    make: Callable[..., GuidedSampler], policy: WanPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def denoise(latents: Tensor, *others: Any) -> Tensor:
        names = ("sigmas", "prompts", "conditions", "scale", "negative", "rows")
        seen.update(zip(names, others, strict=True), latents=latents)
        return latents

    monkeypatch.setattr(policy, "denoise", denoise)
    row = row_of(pairs(make(flow_shift=3.0, negative_prompt="blurred"), ["a"])["a"])
    clean = policy.encode_video([VIDEOS["a"]])
    for place, seed in enumerate(row.seeds):
        start = guided_latents(clean, seeded_noise(seed, clean.shape[1:])[None], row.eta)[0]
        torch.testing.assert_close(seen["latents"][place], start, atol=0, rtol=0)
    torch.testing.assert_close(seen["sigmas"], guided_sigmas(4, row.eta, 3.0), atol=0, rtol=0)
    assert torch.equal(seen["prompts"][0]["embeds"], seen["prompts"][1]["embeds"])
    assert [condition.image for condition in seen["conditions"]] == [None, None]
    assert seen["scale"] == 2.0
    torch.testing.assert_close(seen["negative"], policy.encode_prompt(["blurred"])[0])


def test_a_pair_does_not_depend_on_what_is_in_its_batch(make: Callable[..., GuidedSampler]) -> None:
    together = pairs(make(), ["a", "part/b", "c"])
    assert pairs(make(), ["c", "a"], masked=["a"]) == {"c": together["c"]}
    assert pairs(make(), ["part/b"])["part/b"] == together["part/b"]
    assert len({row_of(one).eta for one in together.values()}) == 3
    assert len({seed for one in together.values() for seed in row_of(one).seeds}) == 6


def test_another_seed_is_another_pair(make: Callable[..., GuidedSampler]) -> None:
    first, second = (row_of(pairs(make(seed=seed), ["a"])["a"]) for seed in (0, 1))
    assert first.eta != second.eta
    assert not set(first.seeds) & set(second.seeds)


def test_eta_1_is_a_vanilla_pair_and_nothing_of_the_video_is_left(make: Callable[..., GuidedSampler]) -> None:
    made = [pairs(make(eta=1.0), ["a"], MemoryVideos({"a": VIDEOS[key]}))["a"] for key in ("a", "c")]
    assert [row_of(one).kind for one in made] == ["vanilla", "vanilla"]
    assert row_of(made[0]).sampler["steps"] == 4
    assert made[0].members == made[1].members


def test_eta_follows_the_motion(make: Callable[..., GuidedSampler]) -> None:
    still = random_video(1, 64, 64).expand(9, -1, -1, -1)
    moving = torch.stack([still[0].roll(6 * number, -1) for number in range(9)])
    rule = MotionAdaptiveEta(DisFlow())
    data = MemoryVideos({"still": still, "moving": moving})
    found = {key: row_of(one).eta for key, one in pairs(make(eta=rule), ["still", "moving"], data).items()}
    assert found["still"] == 0.85
    assert 0.65 <= found["moving"] < 0.75
    with pytest.raises(ValueError, match="sample 'short' has one frame and so no motion"):
        pairs(make(eta=rule), ["short"], MemoryVideos({"short": still[:1]}))


def test_a_sharded_run_makes_equal_steps_on_every_rank_and_the_same_pairs(
    make: Callable[..., GuidedSampler], policy: WanPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = pairs(make(eta=(0.3, 0.9), num_steps=10), ["a", "c"])
    steps: list[int] = []
    denoise = policy.denoise
    monkeypatch.setattr(policy, "denoise", lambda *given: (steps.append(len(given[1])), denoise(*given))[1])
    monkeypatch.setattr(GuidedSampler, "sharded", True)
    assert pairs(make(eta=(0.3, 0.9), num_steps=10), ["a", "part/b", "c"], masked=["part/b"]) == alone
    assert steps == [10] * 3, "padding makes its forwards too"


def test_a_video_that_the_autoencoder_would_cut_is_refused_by_name(make: Callable[..., GuidedSampler]) -> None:
    with pytest.raises(ValueError, match=r"sample 'short': .*multiple of 4 plus 1"):
        pairs(make(), ["short"], MemoryVideos({"short": VIDEOS["a"][:4]}))


def test_broken_weights_stop_the_run(make: Callable[..., GuidedSampler], monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    monkeypatch.setattr(module.policy, "denoise", lambda latents, *_: latents * float("nan"))
    with pytest.raises(FloatingPointError, match="sample 'a'"):
        pairs(module, ["a"])


@pytest.mark.parametrize("eta", [0.0, 1.01, (0.8, 0.65), (0.0, 0.5), (0.5, 1.2)])
def test_an_eta_that_is_none_is_refused(policy: WanPolicy, eta: Any) -> None:
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        GuidedSampler(policy, eta=eta)


def test_an_eta_above_the_experts_levels_is_refused_before_the_run(
    policy: WanPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WanPolicy, "times", (0.0, 0.75))
    with pytest.raises(ValueError, match=r"eta up to 0\.8, but this policy is made for noise levels up to 0\.75"):
        GuidedSampler(policy)


@pytest.mark.parametrize("levels", [{"slow": 0.5}, {"slow": 1.1}, {"fast": 0.0}, {"fast_motion": 0.01}])
def test_motion_levels_that_make_no_sense_are_refused(levels: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be below|give 0 <"):
        MotionAdaptiveEta(DisFlow(), **levels)


@pytest.mark.parametrize("settings", [{"num_steps": 0}, {"flow_shift": 0.0}, {"seed": -1}])
def test_sampler_settings_that_make_no_sense_are_refused(policy: WanPolicy, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        GuidedSampler(policy, **settings)


def test_what_a_pair_depends_on_is_plain(make: Callable[..., GuidedSampler], tmp_path: Path) -> None:
    trainer: Any = type("Trainer", (), {"datamodule": DATA})
    made = make(eta=MotionAdaptiveEta(DisFlow())).made_from(trainer)
    assert json.loads(json.dumps(made)) == made
    assert made["fingerprint"] == "source"
    assert made["eta"]["fast"] == 0.65
    fast = make(eta=MotionAdaptiveEta(DisFlow("fast"))).made_from(trainer)
    assert differences(made, fast) == ['eta.flow.preset was "medium", is "fast"']
    small = make(eta=MotionAdaptiveEta(RaftFlow("w.pth", "small", 4, device="cuda"))).made_from(trainer)["eta"]["flow"]
    assert small == {"class": "RaftFlow", "weights": "w.pth", "model": "small", "num_updates": 4, "contents": {}}
    assert made["policy"]["class"] == "WanPolicy"


def test_pairs_depend_on_the_content_of_the_base_and_of_the_flows_weights(tmp_path: Path) -> None:
    trainer: Any = type("Trainer", (), {"datamodule": DATA})
    base, raft = write_tiny_wan(tmp_path / "wan"), tmp_path / "raft.pth"
    raft.write_bytes(b"one")
    sampler = GuidedSampler(WanPolicy(str(base), prompt_length=32), eta=MotionAdaptiveEta(RaftFlow(str(raft))))
    before = sampler.made_from(trainer)
    assert differences(before, sampler.made_from(trainer)) == []
    raft.write_bytes(b"two")
    shutil.copy(write_tiny_wan(tmp_path / "other", seed=1) / TRANSFORMER, base / TRANSFORMER)
    lines = differences(before, sampler.made_from(trainer))
    assert [line.partition(" names")[0] for line in lines] == [
        "the files that policy.path",
        "the files that eta.flow.weights",
    ]


def test_latents_and_embeddings_take_half_the_space_on_request(make: Callable[..., GuidedSampler]) -> None:
    half, whole = (pairs(make(**settings), ["a"])["a"] for settings in ({"store_dtype": "bfloat16"}, {}))
    for member in ("latents.safetensors", "prompt.safetensors"):
        stored, plain = load(half.members[member]), load(whole.members[member])
        assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
        for name, tensor in stored.items():
            torch.testing.assert_close(tensor, plain[name].bfloat16(), atol=0, rtol=0)
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(fingerprint="f"))
    assert make(store_dtype="bfloat16").made_from(trainer)["store_dtype"] == "bfloat16"
    assert "store_dtype" not in make().made_from(trainer), "a run that an earlier release began goes on"


def test_lossless_pairs_show_exactly_what_was_decoded(make: Callable[..., GuidedSampler], policy: WanPolicy) -> None:
    made = pairs(make(lossless=True), ["a"])["a"]
    for name in ("first", "second"):
        shown = policy.decode_video(latents_of(made)[name][None])[0]
        assert torch.equal(decode_frames(made.members[f"{name}.mp4"], range(len(shown))), shown)
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(fingerprint="f"))
    assert make(lossless=True).made_from(trainer)["lossless"] is True
    assert "lossless" not in make().made_from(trainer), "a run that an earlier release began goes on"


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_no_more_rows_pass_at_once_than_allowed(
    make: Callable[..., GuidedSampler], policy: WanPolicy, rows: int
) -> None:
    seen: list[int] = []
    hook = policy.base.register_forward_pre_hook(
        lambda module, args, given: seen.append(len(given["hidden_states"])), with_kwargs=True
    )
    made = pairs(make(denoise_rows=rows), ["a"])["a"]
    hook.remove()
    assert set(seen) == {rows}
    latents, plain = (load(pair.members["latents.safetensors"]) for pair in (made, pairs(make(), ["a"])["a"]))
    torch.testing.assert_close(latents["second"], plain["second"], rtol=1e-4, atol=1e-4)
