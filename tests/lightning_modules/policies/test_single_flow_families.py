"""What single families do for themselves: CogVideoX-1.5's first frame, Mochi's empty prompt, HunyuanVideo's mask."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datamodules.dense.inputs import Condition
from datamodules.dense.latent_space import LatentSpace
from tests.support.tiny_flows import FAMILIES, FPS, PROMPT, close


def test_cogvideox_15_puts_a_copy_of_the_first_latent_frame_in_front_of_a_video_and_takes_it_off_again(
    tmp_path: Path,
) -> None:
    family = FAMILIES["cogvideox15"]
    policy, pipe = family.build(family.save(tmp_path)), family.read(tmp_path)
    video = family.video()
    (latents,) = policy.encode_video([video])
    pixels = video.transpose(0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        own = pipe.vae.encode(pixels).latent_dist.mode()[0] * pipe.vae.config.scaling_factor
        decoded = pipe.vae.decode(own[None] / pipe.vae.config.scaling_factor).sample
    assert latents.shape[1] == own.shape[1] + 1 == 4, "9 frames are 3 latent frames"
    torch.testing.assert_close(latents[:, 1:], own)
    assert torch.equal(latents[:, 0], latents[:, 1])
    shown = ((decoded[0] + 1) / 2).clamp(0, 1).transpose(0, 1)
    torch.testing.assert_close(policy._codec.decode(latents[None])[0], shown)
    space = policy.latent_space
    assert space.leading_frames == 1
    assert LatentSpace.from_json(space.to_json()) == space
    with pytest.raises(ValueError, match=r"\(1, 4, 3, 4, 4\) do not divide into patches of \(2, 2, 2\)"):
        policy(latents[None, :, 1:], torch.tensor([0.6]), policy.encode_prompt([PROMPT]), [Condition(FPS)])


@pytest.mark.slow
def test_mochis_empty_prompt_is_the_pipelines(tmp_path: Path) -> None:
    """Which guidance leads away from by default; the checkpoint says that it has no token."""
    family = FAMILIES["mochi"]
    policy, pipe = family.build(family.save(tmp_path)), family.read(tmp_path)
    empty, text = policy.encode_prompt(["", PROMPT], allow_empty=True)
    assert len(empty["embeds"]) == 0
    noise = family.noise(policy)
    frames, height, width = family.size
    with torch.no_grad():
        latents = pipe(
            PROMPT, negative_prompt="", height=height, width=width, num_frames=frames, latents=noise,
            num_inference_steps=4, output_type="latent", guidance_scale=3.0, max_sequence_length=24,
        ).frames  # fmt: skip
    levels = policy.levels(4, 1.0, noise.shape[1:])
    assert close(policy.denoise(noise, levels, [text], [Condition(FPS)], 3.0), latents)


@pytest.mark.slow
def test_hunyuan_video_has_no_mask_of_every_pair_of_tokens(tmp_path: Path) -> None:
    """Of 50,000 tokens it takes gigabytes in each block. That the velocity is the pipeline's, other tests say."""
    family = FAMILIES["hunyuan15"]
    policy = family.build(family.save(tmp_path))
    noise, prompts = family.noise(policy), policy.encode_prompt([PROMPT])
    shapes = Shapes()
    with torch.no_grad(), shapes:
        policy(noise, torch.tensor([0.6]), prompts, [Condition(FPS)])
    tokens = prod(noise.shape[2:]) + 40 + 256 + 1
    assert (1, tokens) in shapes.seen, "there is a mask of tokens"
    assert not [shape for shape in shapes.seen if shape[-2:] == (tokens, tokens)]


class Shapes(TorchDispatchMode):
    """Mode that notes the shape of every result."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen |= {tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result
