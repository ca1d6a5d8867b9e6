"""Training steps of a tiny Wan with its real classes: what is loaded, what has a gradient, what stops a run."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from callbacks.reference.model import ReferenceModel
from datamodules.dense.batches import LatentBatch, PairBatch
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.learning_rate import warmup_factor
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.sharding import full_state_dict, load_sharded
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.supervised_flow import SupervisedFlow
from tests.support.flow_fakes import Given
from tests.support.quiet_trainer import quiet_trainer
from tests.support.tiny_wan import LATENT_CHANNELS, TEXT_WIDTH, write_tiny_wan

#: (C, F, H, W) of the latents.
SHAPE = (LATENT_CHANNELS, 3, 2, 4)
LORA = FlowLora(r=4, alpha=8)


@pytest.fixture(scope="session")
def bare_wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder without the weights of VAE and text encoder, and without a tokenizer."""
    folder = write_tiny_wan(tmp_path_factory.mktemp("wan") / "tiny")
    for part in ("vae", "text_encoder"):
        for weights in (folder / part).glob("*.safetensors*"):
            weights.unlink()
    shutil.rmtree(folder / "tokenizer")
    return folder


def make_pairs(labels: list[list[int]], seed: int = 0) -> PairBatch:
    generator = torch.Generator().manual_seed(seed)
    first, second, noise = torch.randn(3, len(labels), *SHAPE, generator=generator)
    each = torch.tensor(labels, dtype=torch.int8)
    return PairBatch(
        keys=[f"pair{seed}-{number}" for number in range(len(labels))],
        first=first,
        second=second,
        prompts=[{"embeds": torch.randn(3 + number, TEXT_WIDTH, generator=generator)} for number in range(len(labels))],
        noise=noise,
        t=torch.rand(len(labels), generator=generator),
        labels=each,
        segments=torch.tensor([[0, 0, 1]]).expand(len(labels), -1),
        preference=each.sum(-1).sign().to(torch.int8),
        mask=torch.ones(len(labels), dtype=torch.bool),
        denominators={"preference": float((each != 0).sum().clamp_min(1))},
    )


def make_latents() -> LatentBatch:
    pairs = make_pairs([[1, 1, 1]] * 2)
    return LatentBatch(
        pairs.keys, pairs.first, pairs.prompts, pairs.noise, pairs.t, pairs.mask, denominators={"supervised": 2.0}
    )


class Gradients(Callback):
    """What every trained parameter's gradient is before each optimizer step, and the losses."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor | None]] = []
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.steps.append(
            {
                name: None if parameter.grad is None else parameter.grad.clone()
                for name, parameter in pl_module.trainable().items()
            }
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def make_trainer(callbacks: list[Callback], steps: int, **settings: Any) -> Trainer:
    return quiet_trainer(max_steps=steps, callbacks=callbacks, **{"devices": 1} | settings)


def dense(folder: Path, **settings: Any) -> DenseDPO:
    policy = WanPolicy(str(folder), **{"lora": LORA, "prompt_length": 8} | settings)
    return DenseDPO(policy, partial(torch.optim.SGD, lr=0.1), beta=20.0, warmup=0)


LABELS = [[1, 1, -1], [0, 0, 1]]


@pytest.fixture
def gradients() -> Gradients:
    return Gradients()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_are_on_at_backward(bare_wan: Path, gradients: Gradients, checkpointing: bool) -> None:
    module = dense(bare_wan, activation_checkpointing=checkpointing)
    make_trainer([ReferenceModel(), gradients], steps=3).fit(module, Given([make_pairs(LABELS, n) for n in range(3)]))
    assert gradients.losses[0] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-6)
    assert gradients.losses[1] != gradients.losses[0]
    for step in gradients.steps:
        assert step
        assert all("lora_" in name for name in step)
        assert not [name for name, gradient in step.items() if gradient is None]
    # In the first step lora_B is 0 and lora_A has no gradient; afterwards both have.
    assert all(gradient.any() for gradient in gradients.steps[-1].values())


def test_a_step_needs_neither_autoencoder_nor_text_encoder(bare_wan: Path) -> None:
    module = dense(bare_wan)
    make_trainer([ReferenceModel()], steps=1).fit(module, Given([make_pairs(LABELS)]))
    with pytest.raises((OSError, ValueError)):
        module.policy.encode_prompt(["the folder has no text encoder to load"])
    with pytest.raises((OSError, ValueError)):
        module.policy.decode_video(torch.zeros(1, *SHAPE))
    names = {name.split(".")[1] for name in module.state_dict()}
    assert names == {"model"}


def test_ties_alone_are_a_step_of_nothing(bare_wan: Path, gradients: Gradients) -> None:
    module = dense(bare_wan)
    data = Given([make_pairs(LABELS), make_pairs([[0, 0, 0]] * 2, 1)])
    make_trainer([ReferenceModel(), gradients], steps=2).fit(module, data)
    assert gradients.losses[1] == 0.0
    assert all(gradient is not None and not gradient.any() for gradient in gradients.steps[1].values())


def test_a_loss_that_is_not_a_number_names_the_keys(bare_wan: Path) -> None:
    batch = make_pairs(LABELS, seed=7)
    batch.first[0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the loss is nan .*pair7-0, pair7-1"):
        make_trainer([ReferenceModel(guard_every_n_steps=0)], steps=1).fit(dense(bare_wan), Given([batch]))


def test_full_fine_tuning_goes_with_a_frozen_copy(bare_wan: Path, gradients: Gradients) -> None:
    module = dense(bare_wan, lora=None)
    data = Given([make_pairs(LABELS, n) for n in range(2)])
    make_trainer([ReferenceModel("copy"), gradients], steps=2).fit(module, data)
    assert gradients.losses[0] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-6)
    assert gradients.losses[1] != pytest.approx(gradients.losses[0], abs=1e-4)
    assert not [name for name, gradient in gradients.steps[0].items() if gradient is None]


def test_supervised_training_of_the_same_policy(bare_wan: Path, gradients: Gradients) -> None:
    policy = WanPolicy(str(bare_wan), lora=LORA, prompt_length=8)
    module = SupervisedFlow(policy, partial(torch.optim.Adam, lr=0.01), warmup=0)
    make_trainer([gradients], steps=8).fit(module, Given([make_latents()] * 8))
    assert gradients.losses[-1] < gradients.losses[0]
    assert not [name for name, gradient in gradients.steps[0].items() if gradient is None]


@pytest.mark.parametrize("warmup", [0.25, 250])
def test_warm_up_is_a_share_or_a_number_of_steps(warmup: float) -> None:
    factors = [warmup_factor(step, 1000, warmup, "constant") for step in (0, 124, 249, 250, 999)]
    assert factors == pytest.approx([1 / 250, 0.5, 1.0, 1.0, 1.0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_bfloat16_sharded_step_on_cuda_is_near_float32(tmp_path: Path, bare_wan: Path) -> None:
    def nudge(module: DenseDPO) -> None:
        with torch.no_grad():
            for parameter in module.trainable().values():
                parameter.mul_(1.1).add_(0.02)

    def step(module: DenseDPO, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad(), module.policy.reference_mode():
            batch.reference = module.scores(batch)
        loss = module.weighted(module.terms(batch), batch)["preference"]
        loss.backward()
        grads = {name: parameter.grad for name, parameter in module.trainable().items() if parameter.grad is not None}
        return loss.detach(), {
            n: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for n, grad in grads.items()
        }

    def on_cuda() -> PairBatch:
        batch = make_pairs(LABELS)
        for name in ("first", "second", "noise", "t", "labels", "segments", "preference", "mask"):
            setattr(batch, name, getattr(batch, name).cuda())
        batch.prompts = [{"embeds": prompt["embeds"].cuda()} for prompt in batch.prompts]
        return batch

    exact, sharded = dense(bare_wan), dense(bare_wan, dtype="bfloat16")
    exact.policy.load()
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        load_sharded(sharded.policy, init_device_mesh("cuda", (1,)))
        exact.policy.load_state_dict(full_state_dict(sharded.policy))
        exact.policy.cuda()
        for module in (exact, sharded):
            nudge(module)
        (exact_loss, exact_grads), (loss, grads) = step(exact, on_cuda()), step(sharded, on_cuda())
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(loss, exact_loss, rtol=0.1, atol=0.1)
    assert grads.keys() == exact_grads.keys()
    assert {grad.dtype for grad in grads.values()} == {torch.float32}
    ours, theirs = (torch.cat([tree[name].flatten() for name in exact_grads]) for tree in (grads, exact_grads))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.95
