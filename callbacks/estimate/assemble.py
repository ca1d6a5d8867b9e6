"""From a configuration to everything that an estimate prints."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks.estimate.batches import Sizes, latent_shape
from callbacks.estimate.cards import GIB, Card
from callbacks.estimate.estimator import Estimator, Sharding
from callbacks.estimate.limits import Line
from callbacks.estimate.report import Estimate, Placement
from callbacks.estimate.run import has_index, indexed_sizes, length_of, reference_of
from callbacks.estimate.step import WAITING, StepCost
from lightning_modules.flow_module import FlowModule
from lightning_modules.policies.sharding import check_shardable, is_shardable
from lightning_modules.preference import PreferenceModule


def assemble(line: Any, options: argparse.Namespace, cards: Sequence[Card]) -> Estimate:
    """The estimate of a run.

    Args:
        line: the command of its fit, see `EstimateLine`.
        options: of the verb.
        cards: to fit it on.

    Raises:
        ValueError: the run trains no preferences, or in a way that cannot be estimated.
    """
    module, data, trainer = line.model, line.datamodule, line.settings["trainer"]
    if not isinstance(module, PreferenceModule):
        raise ValueError(f"estimate is for methods that train a policy, not for {type(module).__name__}")
    strategy = getattr(line.config_init["fit"]["trainer"], "strategy", None)
    if isinstance(strategy, ModelParallelStrategy):
        check_shardable(module.policy)
    module.setup("fit")
    sharding = Sharding.of(strategy, int(trainer["num_nodes"] or 1))
    reference = reference_of(line.trainer.callbacks)
    if reference == "none" and hasattr(module, "beta"):
        raise ValueError("the run has no reference: add ReferenceModel to trainer.callbacks")
    estimator = Estimator(
        module, data, reference, line.precision, sharding, int(trainer["accumulate_grad_batches"]) > 1
    )
    sizes = indexed_sizes(data, _asked_sizes(module, options))
    length = length_of(trainer, data, configured_gpus(trainer), options.samples)
    one = estimator.cost(sizes, data.batch_size)
    placements = _placements(estimator, sizes, data.batch_size, options.gpus, one)
    estimate = Estimate(
        f"{type(module).__name__} on {type(module.policy).__name__} "
        f"({line.checkpoint_id or getattr(module.policy, 'path', '')})",
        [
            *_notes(line, module, data, sizes, length.why, reference),
            *_strategy_notes(estimator, options.gpus, placements),
        ],
        placements,
        length,
    )
    if not options.quick:
        _add_limits(estimate, estimator, sizes, one, cards, options.reserve)
    return estimate


def _asked_sizes(module: PreferenceModule, options: argparse.Namespace) -> Sizes:
    texts = {"question": options.prompt_tokens, "answer": options.answer_tokens}
    if isinstance(module, FlowModule):
        frames, height, width = options.video or (81, 480, 832)
        return Sizes(frames, height, width, **texts)
    height, width = options.frame or (360, 640)
    return Sizes(height=height, width=width, **texts)


def configured_gpus(trainer: Any) -> int:
    """The GPUs for which a configuration's accumulation is meant; "auto" is taken for one."""
    devices = trainer["devices"]
    count = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    return max(1, count) * int(trainer["num_nodes"] or 1)


def _placements(
    estimator: Estimator, sizes: Sizes, batch_size: int, gpus: Sequence[int], one: StepCost
) -> list[Placement]:
    placements = [Placement(1, "one device", one)]
    several = [count for count in gpus if count > 1]
    if not several:
        return placements
    # All gradients have their place in DDP's buckets throughout.
    data_parallel = one if estimator.accumulates else estimator.cost(sizes, batch_size, several[-1])
    divided = _divided(several, estimator)
    sharded = estimator.cost(sizes, batch_size, divided[-1], sharded=True) if divided else None
    for count in several:
        placements.append(Placement(count, "DDP", data_parallel))
        if sharded is not None and count in divided:
            placements.append(Placement(count, "FSDP2", on_other_number(sharded, divided[-1], count)))
    return placements


def _divided(gpus: Sequence[int], estimator: Estimator) -> list[int]:
    """The numbers of GPUs, several, over which the policy can be sharded: those that the replicas divide."""
    if not is_shardable(estimator.module.policy):
        return []
    return [count for count in gpus if count > 1 and count % estimator.sharding.replicas == 0]


def on_other_number(cost: StepCost, gpus: int, others: int) -> StepCost:
    """A sharded step on another number of GPUs: its shards grow or shrink, activations and whole gradients do not.

    Args:
        cost: on one of `gpus`.
        gpus: on which it was run.
        others: how many there are instead.
    """
    share = gpus / others
    parts = {name: size if name in ("batch", WAITING) else int(size * share) for name, size in cost.peak.parts.items()}
    static: dict[str, Any] = {
        name: int(getattr(cost, name) * share) for name in ("weights", "trained", "gradients", "optimizer")
    }
    peak = copy.copy(cost.peak)
    peak.parts, peak.total = type(cost.peak.parts)(parts), cost.own + sum(parts.values())
    return replace(cost, **static, peak=peak)


def _add_limits(
    estimate: Estimate, estimator: Estimator, sizes: Sizes, one: StepCost, cards: Sequence[Card], reserve: float
) -> None:
    size = one.samples
    batches = Line((size, one), (size + 1, estimator.cost(sizes, size + 1)))
    video = _video_line(estimator, sizes, one)
    for card in cards:
        room = (card.memory - reserve) * GIB
        lines = [f"largest batch of one GPU: {batches.largest(room) or 'none'}"]
        if isinstance(video, str):
            lines.append(video)
        else:
            unit, line, step = video
            lines.append(f"most {unit} at batch {size}: {line.largest(room, step) or 'none'}")
        estimate.limits[card.name] = lines


def _video_line(estimator: Estimator, sizes: Sizes, one: StepCost) -> tuple[str, Line, int] | str:
    """What a longer video takes; or why there is none."""
    module: Any = estimator.module
    policy: Any = module.policy
    if isinstance(module, FlowModule):
        shape = latent_shape(module.policy, sizes)
        step: int = policy.patch[0]
        longer = (shape[0], shape[1] + 4 * step, *shape[2:])
        cost = estimator.cost(replace(sizes, latents=longer), one.samples)
        return "latent frames", Line((shape[1], one), (longer[1], cost)), step
    frames = estimator.data.num_frames
    # Another policy: a prompt with its placeholders is kept by one.
    longer_run = replace(estimator, module=copy.deepcopy(module), data=copy.copy(estimator.data), _whole=None)
    holders: list[Any] = [longer_run.module.policy, longer_run.data]
    for holder in holders:
        if getattr(holder, "num_frames", None) is not None:
            holder.num_frames = frames + 2
    try:
        cost = longer_run.cost(sizes, one.samples)
    except ValueError as error:  # the checkpoint has no more positions
        return f"no more frames than {frames + 1}: {error}"
    return "frames (as far as the checkpoint has positions)", Line((frames, one), (frames + 2, cost)), 1


def _notes(line: Any, module: Any, data: Any, sizes: Sizes, length: str, reference: str) -> list[str]:
    origin = "the training index" if has_index(data) else "assumed, the training index is not there"
    if isinstance(module, FlowModule):
        size = f"latents of {' x '.join(map(str, latent_shape(module.policy, sizes)))}"
    else:
        size = f"{data.num_frames} frames of {sizes.height} x {sizes.width}"
        origin += f"; prompts of {sizes.question} tokens without the video, answers of {sizes.answer}"
    notes = [
        f"a sample: {size} ({origin})",
        f"the run: {length}; batch {data.batch_size} on a GPU, reference: {reference}",
    ]
    if any(getattr(callback, "mode", None) == "remember" for callback in line.trainer.callbacks):
        notes.append("remembered references are counted as scored in every epoch; from the second on they are read")
    if getattr(module.policy, "quantization", None) is not None:
        notes.append(
            f"{module.policy.quantization}: weights as bitsandbytes keeps them, half a byte each with the scales of "
            "their blocks; each layer's are unpacked while it is multiplied by"
        )
    if getattr(module.policy, "compiled", None) is not None:
        notes.append(
            "compiled blocks are counted as they run uncompiled, where every intermediate tensor is one of memory: an "
            "upper figure by what fused kernels leave out, approximate since compiled ones may keep other tensors for "
            "backward; what compiling takes is not in it"
        )
    if line.checkpoint_id is not None:
        notes.append("the checkpoint's sizes are those known here; no file of it was read")
    return notes


def _strategy_notes(estimator: Estimator, gpus: Sequence[int], placements: Sequence[Placement]) -> list[str]:
    """How several GPUs share the work."""
    several, sharding = [count for count in gpus if count > 1], estimator.sharding
    divided = _divided(several, estimator)
    kind = "fsdp.yaml" if sharding.replicas == 1 else f"hsdp.yaml, {sharding.replicas} groups that each hold the model"
    sharded = f"FSDP2 as in {kind}" if is_shardable(estimator.module.policy) else "no FSDP2, which shards no four bits"
    notes = [
        f"DDP as in configs/strategy/ddp.yaml (gradients are views of the buckets), {sharded}; hours for the same "
        "global batch on any number of GPUs"
    ]
    if len(divided) > 1:
        notes.append(
            f"FSDP2 was run as on {divided[-1]} GPUs; on fewer its shards are larger, reckoned within about 2%, "
            "and exact for a number of GPUs that is given alone"
        )
    if is_shardable(estimator.module.policy) and (others := sorted(set(several) - set(divided))):
        notes.append(
            f"no FSDP2 on {', '.join(map(str, others))} GPUs, which {sharding.replicas} replicas do not divide"
        )
    if estimator.accumulates and divided:
        whole = next(placement.cost.waiting for placement in placements if placement.strategy == "FSDP2") / GIB
        notes.append(
            "FSDP2 reduces gradients with a step's last micro-batch (accumulation: whole); until then each GPU keeps "
            f"{whole:.2f} GiB of its own"
            if whole
            else "FSDP2 reduces gradients with every micro-batch (accumulation: sharded)"
        )
    return notes
