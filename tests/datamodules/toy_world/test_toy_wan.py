"""The toy video model: real classes, a tokeniser that knows its words, a checkpoint whose shapes differ in speed."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.toy_world.motion_measures import measure
from datamodules.toy_world.motion_world import (
    NUM_FRAMES,
    ShapeMotion,
    draw_motion_scene,
    parse_motion,
    render_motion,
)
from datamodules.toy_world.render import Thing
from datamodules.toy_world.wan_checkpoint import (
    PROMPT_LENGTH,
    build_tokenizer,
    build_vae,
    load_pipeline,
    main,
    write_joined,
    write_untrained,
)
from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.policies.wan import WanPolicy
from tests.support.paths import ROOT

WORLD = ROOT / "datamodules/toy_world"
CHECKPOINT = WORLD / "checkpoints/wan"
PAIRS = WORLD / "pairs"


def test_a_prompt_is_one_token_a_word_and_other_texts_have_tokens_too() -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer("a red circle moves vertically fast")["input_ids"]) == [
        "▁a", "▁red", "▁circle", "▁moves", "▁vertically", "▁fast", "</s>",
    ]  # fmt: skip
    assert tokenizer("")["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.unk_token_id not in tokenizer("a dog runs away")["input_ids"]


def test_the_untrained_autoencoder_holds_the_last_of_four_frames() -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    video = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    held = video[:, :, [0, 4, 4, 4, 4, 8, 8, 8, 8]]
    with torch.no_grad():
        latents = [vae.encode(one).latent_dist.mode() for one in (video, held)]
        frames = vae.decode(latents[0]).sample
    assert latents[0].shape == (1, 16, 3, 4, 4)
    assert torch.allclose(*latents, atol=1e-5)
    assert torch.allclose(frames[:, :, 1:2].expand(-1, -1, 4, -1, -1), frames[:, :, 1:5], atol=1e-5)


def test_untrained_weights_follow_the_seed_and_leave_the_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_untrained(tmp_path / name, seed)
    assert torch.equal(torch.get_rng_state(), before)
    file = "transformer/diffusion_pytorch_model.safetensors"
    first, again, other = ((tmp_path / name / file).read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_joining_takes_the_transformer_and_halves_everything(tmp_path: Path) -> None:
    write_untrained(tmp_path / "a", 1)
    write_untrained(tmp_path / "b", 2)
    write_joined(tmp_path / "a", tmp_path / "b/transformer", tmp_path / "c")
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).rglob("*.safetensors")) for name in "ac"]
    assert sizes[1] < 0.52 * sizes[0]
    one, two, joined = (load_pipeline(tmp_path / name) for name in "abc")
    for part, source in (("transformer", two), ("vae", one), ("text_encoder", one)):
        for name, weight in getattr(joined, part).state_dict().items():
            assert weight.dtype == torch.float32
            assert torch.allclose(weight, getattr(source, part).state_dict()[name], atol=1e-3)
    with pytest.raises(SystemExit):
        main(["untrained"])


def test_the_checkpoint_is_small() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.rglob("*") if file.is_file()) <= 8_000_000


@pytest.fixture(scope="module")
def policy() -> WanPolicy:
    policy = WanPolicy(str(CHECKPOINT), prompt_length=PROMPT_LENGTH)
    policy.load()
    return policy.eval()


@pytest.mark.slow
def test_its_samples_show_what_the_prompt_says_at_several_speeds(policy: WanPolicy) -> None:
    motion = ShapeMotion(Thing("red", "circle"), "vertically")
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((12, 16, 9, 4, 4), dtype=np.float32))
    prompts = policy.encode_prompt([str(motion)]) * 12
    videos = policy.decode_video(policy.denoise(noise, guided_sigmas(20, 1.0), prompts, (), 1.0))
    assert all(video.shape == (NUM_FRAMES, 3, 32, 32) for video in videos)
    measures = [measure(video, motion) for video in videos]
    assert np.mean([video.quality for video in measures]) > 0.85
    speeds = [video.speed for video in measures]
    assert max(speeds) > 2 * min(speeds), "one prompt, several speeds"
    wrong = replace(motion, thing=Thing("blue", "triangle"))
    assert np.mean([measure(video, wrong).quality for video in videos]) < 0.5


def test_its_autoencoder_keeps_what_a_video_shows(policy: WanPolicy) -> None:
    for seed in range(3):
        scene = draw_motion_scene(random.Random(seed))
        latents = policy.encode_video([torch.from_numpy(render_motion(scene)).permute(0, 3, 1, 2)])
        assert 0.3 < latents.std() < 3
        measures = measure(policy.decode_video(latents)[0], scene.motion)
        assert measures.speed == pytest.approx(scene.speed, abs=0.2)
        assert measures.quality > 0.92


def test_the_shipped_pairs_are_whole_labelled_and_small() -> None:
    pairs, labels, independent = (
        Index.read(PAIRS / f"{name}.index.json") for name in ("train", "labels", "independent")
    )
    for name in ("train", "labels", "independent"):
        assert verify(str(PAIRS / f"{name}.index.json")) == []
    assert {entry.facts["kind"] for entry in independent.entries} == {"vanilla"}
    samples = SampleReader(pairs)
    prompts = [json.loads(samples.read(position, ["json"])["json"])["prompt"] for position in range(len(pairs))]
    assert all(parse_motion(prompt).speed is None for prompt in prompts)
    assert labels.made_from["fingerprint"] == pairs.fingerprint
    assert [entry.key for entry in labels.entries] == [entry.key for entry in pairs.entries]
    every = np.array([entry.facts["labels"] for entry in labels.entries])
    assert every.shape[1] == 4
    assert 0.3 < (every != 0).mean() < 0.95
    assert abs(every.mean()) < 0.2
    assert sum(file.stat().st_size for file in PAIRS.iterdir()) < 12_000_000
