"""Every video diffusion family against diffusers' own pipeline, on tiny checkpoints of the real classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import Timesteps
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from lightning_modules.policies.flow_adapters import FILE, FlowLora
from lightning_modules.policies.mochi import MochiPolicy
from lightning_modules.policies.original_names import FOLDER
from lightning_modules.policy_loading import policy_settings
from tests.support.slow_params import slow_but
from tests.support.tiny_flows import FAMILIES, FPS, NEGATIVE, PROMPT, Family, close
from tests.support.wan_cases import nudge

LORA = FlowLora(r=4, alpha=12)


class Case:
    """A family with its checkpoint on disk, read once by policy and pipeline."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.family, self.folder = family, family.save(folder)
        self.policy = family.build(self.folder)
        self.noise = family.noise(self.policy)
        self.prompt, self.negative = self.policy.encode_prompt([PROMPT, NEGATIVE])
        self.condition = self.policy.condition(family.video(), FPS)
        self.pipe = family.read(self.folder)
        self.sampled = family.sampled(self.pipe, self.policy, self.noise)
        self.levels = self.policy.levels(family.steps, 1.0, self.noise.shape[1:])
        self.pipeline_levels = getattr(self.pipe.scheduler, "sigmas", None)
        if self.pipe.scheduler.config.get("invert_sigmas"):
            self.pipeline_levels = 1 - self.pipeline_levels
        if not family.own_levels:
            self.levels = self.pipeline_levels.double()

    def denoised(self, policy: Any, **changes: Any) -> Tensor:
        """The latents that our loop ends on."""
        arguments = {"conditions": [self.condition], "negative": self.negative} | changes
        denoised: Tensor = policy.denoise(self.noise, self.levels, [self.prompt], guidance_scale=3.0, **arguments)
        return denoised

    def velocity(self, policy: Any, **changes: Any) -> Tensor:
        """One velocity of two videos at two times."""
        arguments = {
            "noisy": torch.cat([self.noise, self.noise.flip(-1)]),
            "t": torch.tensor([0.95, 0.3]),
            "prompts": [self.prompt, self.negative],
            "conditions": [self.condition] * 2,
        }
        velocity: Tensor = policy(**(arguments | changes))
        return velocity


#: Given frames and packed latents; `v` and no masks. The others are slow, Wan's text to video among them.
QUICK = ("ltx-image", "cogvideox")


@pytest.fixture(scope="module", params=slow_but(QUICK, FAMILIES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(FAMILIES[request.param], tmp_path_factory.mktemp(request.param))


def test_our_loop_is_the_pipelines_own_sampling(case: Case) -> None:
    assert close(case.denoised(case.policy), case.sampled)
    assert not close(case.sampled, case.noise, 0.1), "it moved"
    assert not close(case.denoised(case.policy, negative=case.prompt), case.sampled, 1e-4), "guidance counts"
    assert close(case.denoised(case.policy, rows=1), case.sampled), "and one row at a time"


def test_its_own_levels_are_the_pipelines(case: Case) -> None:
    own = case.policy.levels(case.family.steps, 1.0, case.noise.shape[1:])
    assert own[0] == pytest.approx(1.0)
    assert own[-1] == 0
    assert (own.diff() < 0).all()
    if case.family.own_levels and case.pipeline_levels is not None:
        torch.testing.assert_close(own.float(), case.pipeline_levels, atol=1e-6, rtol=0)
    guided = case.policy.levels(case.family.steps, 0.75, case.noise.shape[1:])
    assert guided[0] == 0.75
    assert guided[1:].tolist() == [level for level in own.tolist() if level < 0.75]


def test_the_adapter_is_loaded_by_the_familys_own_loader_with_its_alpha(case: Case, tmp_path: Path) -> None:
    trained = case.family.build(case.folder, lora=LORA)
    nudge(trained)
    trained.export(tmp_path / "adapter")
    ours = case.denoised(trained)
    assert not close(ours, case.sampled, 1e-3), "the adapter moves the video"

    pipe = case.family.read(case.folder)
    if hasattr(pipe, "load_lora_weights"):
        pipe.load_lora_weights(tmp_path / "adapter")
        if len(trained.networks) > 1:
            pipe.load_lora_weights(tmp_path / "adapter" / "transformer_2", load_into_transformer_2=True)
    else:
        options = {"prefix": None, "use_safetensors": True, "weight_name": FILE}
        pipe.transformer.load_lora_adapter(tmp_path / "adapter", **options)
    assert close(case.family.sampled(pipe, case.policy, case.noise), ours)

    again = case.family.build(case.folder, adapter=str(tmp_path / "adapter"))
    torch.testing.assert_close(case.velocity(again), case.velocity(trained), rtol=0, atol=0)
    with again.reference_mode(), torch.no_grad():
        torch.testing.assert_close(case.velocity(again), case.velocity(trained), rtol=0, atol=0)


def test_original_names_are_read_by_diffusers_own_converter(case: Case, tmp_path: Path) -> None:
    if case.policy.original is None:
        with pytest.raises(ValueError, match="diffusers converts no original names of this family"):
            case.family.policy(str(case.folder), **case.family.settings, lora=LORA, original_names=True)
        return
    trained = case.family.build(case.folder, lora=LORA, original_names=True)
    nudge(trained)
    trained.export(tmp_path)
    names = load_file(tmp_path / FOLDER / FILE)
    if case.policy.original.alpha:
        assert names["diffusion_model.blocks.0.self_attn.q.alpha"] == 12
        assert "diffusion_model.blocks.1.ffn.2.lora_down.weight" in names
    assert all(name.startswith("diffusion_model.") for name in names)
    pipe = case.family.read(case.folder)
    pipe.load_lora_weights(tmp_path / FOLDER)
    if len(trained.networks) > 1:
        pipe.load_lora_weights(tmp_path / "transformer_2" / FOLDER, load_into_transformer_2=True)
    assert close(case.family.sampled(pipe, case.policy, case.noise), case.denoised(trained))


def test_every_trained_weight_gets_a_gradient(case: Case) -> None:
    policy = case.family.build(case.folder, lora=LORA)
    nudge(policy)
    case.velocity(policy).square().mean().backward()
    trained = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()] == []
    blocks = sum(1 for _ in policy.blocks())
    assert len(trained) >= 2 * 6 * blocks, "A and B of at least six linears a block"


def test_all_linears_leave_out_those_that_no_gradient_reaches(case: Case) -> None:
    policy = case.family.build(case.folder, lora=FlowLora(r=2, targets="all-linear"))
    nudge(policy)
    case.velocity(policy).square().mean().backward()
    trained = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None] == []


def test_an_expert_that_is_not_asked_has_gradients_of_0(case: Case) -> None:
    """DDP waits for every weight of every rank, and a rank may draw times of one expert alone."""
    if len(case.policy.networks) == 1:
        return
    policy = case.family.build(case.folder, lora=LORA)
    nudge(policy)
    case.velocity(policy, t=torch.tensor([0.2, 0.3])).square().mean().backward()
    gradients = {name: weight.grad for name, weight in policy.named_parameters() if weight.requires_grad}
    idle = {name for name in gradients if name.startswith("model.transformer.")}
    assert all((gradient is not None and bool(gradient.any())) is (name not in idle)
               for name, gradient in gradients.items())  # fmt: skip
    low = case.family.policy(str(case.folder), **case.family.settings | {"transformer": "transformer_2"})
    low.load()
    times = {"t": torch.tensor([0.2, 0.3])}
    torch.testing.assert_close(case.velocity(low, **times), case.velocity(case.policy, **times), rtol=0, atol=1e-6)


def test_the_autoencoders_type_and_tiles_change_little_and_are_recorded(case: Case) -> None:
    video = case.family.video()
    if case.family.policy is MochiPolicy:
        with pytest.raises(ValueError, match=r"vae_dtype: Mochi's encoder reads pixels by sines"):
            case.family.policy(str(case.folder), **case.family.settings, vae_dtype="bfloat16")
        return
    half = case.family.policy(str(case.folder), **case.family.settings, vae_dtype="bfloat16", vae_tiling=True)
    ours, plain = half.encode_video([video]), case.policy.encode_video([video])
    assert half._codec._autoencoder(torch.device("cpu")).use_tiling
    assert ours.dtype == torch.float32
    assert 0 < float((ours - plain).norm() / plain.norm()) < 0.1
    assert half.decode_video(ours)[0].shape == video.shape
    recorded = policy_settings(half)
    assert (recorded["vae_dtype"], recorded["vae_tiling"]) == ("bfloat16", True)
    assert policy_settings(case.policy).keys().isdisjoint({"vae_dtype", "vae_tiling"}), "as earlier releases recorded"
    half.release(keep_vae=True)
    assert half._codec._vae is not None
    half.release()
    assert half._codec._vae is None


def test_half_precision_is_close_and_the_meta_device_agrees(case: Case) -> None:
    half = case.family.build(case.folder, lora=LORA, dtype="bfloat16", activation_checkpointing=True)
    on_meta = case.family.policy(str(case.folder), **case.family.settings, lora=LORA, dtype="bfloat16")
    if len(half.networks) == 1:
        on_meta.load(meta=True)
        facts = [
            {name: (weight.dtype, weight.shape, weight.requires_grad) for name, weight in policy.named_parameters()}
            for policy in (half, on_meta)
        ]
        assert facts[0] == facts[1]
    times: list[torch.dtype] = []
    for module in half.modules():
        if isinstance(module, Timesteps):
            module.register_forward_pre_hook(lambda module, given: times.append(given[0].dtype))
    velocity, whole = case.velocity(half), case.velocity(case.policy)
    assert set(times) == {torch.float32}, "in 16 bits 731.2 would be 732"
    assert velocity.dtype == torch.float32
    assert (velocity - whole).norm() < 0.1 * whole.norm()
    nudge(half)
    case.velocity(half).square().mean().backward()
    trained = {name: weight for name, weight in half.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    assert [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()] == []


def test_given_frames_are_not_made_and_their_noise_is_not_looked_at(case: Case) -> None:
    predicted = case.policy.predicted_frames(3, case.condition)
    given = case.policy.image_use == "given"
    leads = bool(case.policy.leading_frames)
    assert predicted.tolist() == [not (given or leads), True, True]
    velocity = case.velocity(case.policy)
    assert bool(velocity[:, :, 0].any()) is not given
    if given:
        other = torch.cat([case.noise, case.noise.flip(-1)])
        other[:, :, 0] += 7
        assert torch.equal(case.velocity(case.policy, noisy=other), velocity)
        assert torch.equal(case.denoised(case.policy)[0, :, :1], case.condition.image)
    if case.policy.image_use != "none":
        other_image = replace(case.condition, image=case.condition.image + 1)
        assert not close(case.velocity(case.policy, conditions=[other_image] * 2), velocity, 1e-3), "the image counts"


def test_the_image_is_that_of_the_videos_first_frame(case: Case) -> None:
    """Its states, too, where the model attends to them: those of the pipeline, and they count."""
    first = case.condition.image
    if case.policy.image_use == "given":
        torch.testing.assert_close(first, case.policy.encode_video([case.family.video()])[0, :, :1])
    states, tower = case.condition.image_states, case.policy._codec.tower
    assert (states is not None) is (tower is not None) is case.policy.attends_to_image
    if states is None or tower is None:
        return
    image = Image.fromarray(case.family.video()[0].permute(1, 2, 0).numpy())
    torch.testing.assert_close(states[None], case.pipe.encode_image(image, torch.device("cpu")))
    assert tuple(states.shape) == tower.shape == (5, 12)
    # Their order is none to the attention.
    other = replace(case.condition, image_states=states.flip(1))
    assert not close(
        case.velocity(case.policy, conditions=[other] * 2),
        case.velocity(case.policy, conditions=[case.condition] * 2), 1e-4,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"attends to an image's states \[5, 12\], and the batch has none"):
        case.velocity(case.policy, conditions=[replace(case.condition, image_states=None)] * 2)
    case.policy.release(keep_vae=True)
    assert tower._model is not None
    case.policy.release()
    assert tower._model is None


def test_latents_and_prompts_of_another_family_are_refused(case: Case) -> None:
    shape = tuple(case.noise.shape[1:])
    image = None if case.condition.image is None else tuple(case.condition.image.shape)
    states = None if case.condition.image_states is None else tuple(case.condition.image_states.shape)
    assert case.policy.condition_fault(shape, image, states) is None
    other = (*shape[:1], 1, *shape[2:]) if image is None else None
    assert case.policy.condition_fault(shape, other, states) is not None
    if states is not None:
        for wrong in (None, (7, 12)):
            assert "attends to an image's states [5, 12]" in str(case.policy.condition_fault(shape, image, wrong))
    with pytest.raises(ValueError, match=r"prompt embedding 0 is|has the streams"):
        case.velocity(case.policy, prompts=[{"embeds": torch.zeros(2, 5)}] * 2)
    with pytest.raises(ValueError, match=r"k \+ 1.*nearest are (1 and 5|1 and 7|1 and 9)"):
        case.policy.encode_video([case.family.video()[:4]])
