"""``ask``: one question about one video, to a video-language model with or without an adapter."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.user_files import user_file

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_modules.policies.video_llm import VideoLLM

#: Frames shown to a policy that takes any number.
DEFAULT_FRAMES = 8
DESCRIPTION = "Prints a video-language model's answer to a question about a video."


def main(arguments: list[str]) -> int:
    """Ask, and print the answer.

    Args:
        arguments: the verb and its options.
    """
    options = ask_parser().parse_args(arguments[1:])
    if options.max_new_tokens < 1:
        raise ValueError(f"--max_new_tokens is {options.max_new_tokens}; give 1 or more")
    from callbacks.cli.verbs.trainer import quieten

    quieten()
    settings = {name: getattr(options, name) for name in ("adapter", "num_frames")}
    settings = {name: value for name, value in settings.items() if value is not None}
    if options.token_pooling is not None:
        settings["token_pooling"] = {"video": options.token_pooling}
    policy = build_policy(options.policy, **settings)
    # Before the weights are loaded: a mistyped name costs no minutes.
    num_frames = options.num_frames or getattr(policy, "num_frames", None) or DEFAULT_FRAMES
    frames, times = read_frames(options.video, num_frames)
    print(answer(policy, frames, times, options.question, options.max_new_tokens, options.device))
    return 0


def ask_parser() -> argparse.ArgumentParser:
    """The options of the verb; plain ones, so that --help loads nothing."""
    parser = argparse.ArgumentParser("vidpref ask", description=DESCRIPTION)
    parser.add_argument(
        "--policy", required=True, help="a checkpoint's folder or hub id, or the YAML of a run or benchmark with one"
    )
    parser.add_argument("--adapter", help="a PEFT folder, such as a run's exports/last; without it the base answers")
    parser.add_argument(
        "--num_frames",
        type=int,
        help=f"frames shown of the video; without it the policy's own number, or {DEFAULT_FRAMES}",
    )
    parser.add_argument(
        "--token_pooling",
        type=int,
        metavar="SIDE",
        help="average squares of SIDE x SIDE patch tokens of each frame (token_pooling.video of the policy); without "
        "it as the YAML says, or as the card of the export",
    )
    parser.add_argument("--max_new_tokens", type=int, default=128, help="the longest answer, in tokens (128)")
    parser.add_argument("--device", help="as torch names it, cuda or cpu; without it a GPU where there is one")
    parser.add_argument("video", help="a video file")
    parser.add_argument("question", help="in quotes; the chat template is the policy's")
    return parser


def build_policy(source: str, **settings: Any) -> Any:
    """A policy that has read its configuration, not its weights.

    Args:
        source: a checkpoint's folder or hub id, or a YAML file that holds a policy.
        settings: parameters of the policy; they win over those in the YAML. `token_pooling` is the sides by level;
            where neither has it, it is that of the export's card.

    Raises:
        ValueError: no family of video-language models is in `source`, or a setting does not go with it.
    """
    from callbacks.adapter_card import card_token_pooling
    from callbacks.cli.class_names import import_config_classes

    # Short names are known, and subclasses listed, once their modules are imported.
    import_config_classes(("lightning_modules.policies",))
    pooling = card_token_pooling(settings.get("adapter", source))
    if not source.endswith((".yaml", ".yml")):
        if pooling is not None:
            settings.setdefault("token_pooling", pooling)
        return _policy_of_a_checkpoint(path=source, **settings)
    import yaml
    from jsonargparse import ArgumentError, ArgumentParser

    from callbacks.cli.config_errors import readable
    from lightning_modules.policies.video_llm import VideoLLM

    try:
        section = _policy_in(yaml.safe_load(user_file(source).read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"--policy {source}: cannot be read ({error})") from error
    if section is None:
        raise ValueError(f"--policy {source}: has no model.init_args.policy; name a checkpoint's folder instead")
    # A new adapter is none yet, and beside a trained one it would have to agree with it.
    settings = {**section.get("init_args", {}), "lora": None, **settings}
    if settings.get("token_pooling") is None and pooling is not None:  # a run's own YAML names every default
        settings["token_pooling"] = pooling
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--policy", type=VideoLLM)
    try:
        parsed = parser.parse_object({"policy": {"class_path": section["class_path"], "init_args": settings}})
    except ArgumentError as error:
        raise ValueError(f"--policy {source}: {readable(str(error))}") from error
    return parser.instantiate_classes(parsed).policy


def _policy_in(content: Any) -> Mapping[str, Any] | None:
    """The `class_path` and `init_args` of a policy: of a run's or benchmark's model, or as the file's own content."""
    for keys in (("model", "init_args", "policy"), ("policy",), ()):
        node = content
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and "class_path" in node:
            return node
    return None


def _policy_of_a_checkpoint(**settings: Any) -> Any:
    """The policy of the family whose checkpoint this is."""
    import torch

    from lightning_modules.policies.hub_model import policy_class
    from lightning_modules.policies.token_pooling import TokenPooling

    pooling = settings.pop("token_pooling", None)
    family = policy_class(settings["path"])
    if "num_frames" not in inspect.signature(family).parameters:  # it takes any number
        settings.pop("num_frames", None)
    if pooling is not None:
        settings["token_pooling"] = TokenPooling(**pooling)
    return family(**settings, dtype="bfloat16" if torch.cuda.is_available() else "float32")


def read_frames(video: str, num_frames: int) -> tuple[Tensor, Tensor]:
    """(T, 3, H, W) uint8, frames spread evenly over a video, and (T,) their times in seconds.

    Raises:
        ValueError: it is no video that can be read.
    """
    from datamodules.questions.base import seconds_from_first
    from datamodules.video.codec import decode_frames, probe
    from datamodules.video.frame_indices import uniform_indices

    if not Path(video).is_file():
        raise ValueError(f"{video}: no such video file")
    facts = probe(video)
    indices = uniform_indices(0, facts.frames - 1, num_frames)
    return decode_frames(video, indices), seconds_from_first(indices, facts.fps)


def answer(
    policy: VideoLLM, frames: Tensor, times: Tensor, question: str, max_new_tokens: int, device: str | None
) -> str:
    """The policy's greedy answer.

    Args:
        policy: not loaded yet.
        frames: (T, 3, H, W) uint8.
        times: (T,) seconds.
        question: without a video token.
        max_new_tokens: the longest answer.
        device: None = a GPU where there is one.
    """
    import torch

    if hasattr(policy, "prompt_length"):
        policy.prompt_length(question, "the question")  # a text that it cannot take, before the weights
    policy.load()
    module: Any = policy
    module.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.inference_mode():
        return policy.generate([question], [frames], max_new_tokens, times=[times])[0]
