"""``estimate``: memory, operations and hours of a training run, without weights and without a GPU."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callbacks.estimate.cards import Card

DESCRIPTION = """What the same `vidpref fit` would take of each GPU, and how long. The method's own scores, loss,
reference and optimizer run on tensors without content: no weights are read and no GPU is asked. Of the checkpoints that
the recipes name the sizes are known; of another, config.json and the tokenizer's and processor's files are enough. All
options that are not named here are those of `vidpref fit`: --config, --model..., --data..., --trainer...."""


def main(arguments: list[str]) -> int:
    """Print an estimate.

    Args:
        arguments: the verb, its own options, and those of a fit.
    """
    options, rest = estimate_parser().parse_known_args(arguments[1:])
    from callbacks.cli.verbs.trainer import quieten

    quieten()
    cards = chosen_cards(options)
    from callbacks.cli.estimate_line import EstimateLine
    from callbacks.estimate.assemble import assemble
    from callbacks.estimate.report import text

    with tempfile.TemporaryDirectory() as scratch:
        line = EstimateLine(["fit", *rest], scratch)
        estimate = assemble(line, options, cards)
    print(text(estimate, cards, options.reserve))
    return 0


def estimate_parser() -> argparse.ArgumentParser:
    """The options of the verb; plain ones, so that --help loads nothing."""
    parser = argparse.ArgumentParser("vidpref estimate", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--gpus", type=numbers, default=[1, 2, 4, 8], metavar="N,N", help="numbers of GPUs (1,2,4,8)")
    cards = parser.add_argument_group("cards")
    cards.add_argument("--card", action="append", help="H100, H200, A100 or 4090; may be repeated (H100)")
    cards.add_argument("--memory", type=float, help="GiB of the card")
    cards.add_argument("--rate", type=float, help="its TFLOP/s in bfloat16, dense")
    cards.add_argument("--float32_rate", type=float, help="its TFLOP/s in float32")
    cards.add_argument("--utilisation", type=float, help="the share of these rates that is assumed (0.4)")
    cards.add_argument("--reserve", type=float, default=2.0, help="GiB for what the estimate leaves out (2)")
    sizes = parser.add_argument_group("sizes, where no training index says them")
    sizes.add_argument("--samples", type=int, help="training samples in an epoch")
    sizes.add_argument("--video", type=video, metavar="FxHxW", help="a video to generate (81x480x832)")
    sizes.add_argument("--frame", type=picture, metavar="HxW", help="a frame of a video to see (360x640)")
    sizes.add_argument("--prompt_tokens", type=int, default=60, help="tokens of a prompt without its video (60)")
    sizes.add_argument("--answer_tokens", type=int, default=64, help="tokens of an answer (64)")
    parser.add_argument("--quick", action="store_true", help="leave out the largest batch and video that fit")
    return parser


def numbers(text: str) -> list[int]:
    """Whole numbers from 1, between commas."""
    values = sorted({int(part) for part in text.split(",")})
    if values[0] < 1:
        raise argparse.ArgumentTypeError("give numbers of GPUs from 1 on")
    return values


def video(text: str) -> tuple[int, int, int]:
    """Frames, height and width."""
    frames, height, width = (int(part) for part in text.split("x"))
    return frames, height, width


def picture(text: str) -> tuple[int, int]:
    """Height and width."""
    height, width = (int(part) for part in text.split("x"))
    return height, width


def chosen_cards(options: argparse.Namespace) -> list[Card]:
    """The cards by name, with what the options say of them.

    Raises:
        ValueError: there is no such card, or a share that is none.
    """
    from callbacks.estimate.cards import CARDS

    cards = []
    for name in options.card or ["H100"]:
        if name not in CARDS:
            raise ValueError(
                f"--card {name}: known are {', '.join(CARDS)}; change one by --memory, --rate and --float32_rate"
            )
        given = {
            "memory": options.memory,
            "bfloat16": options.rate,
            "float32": options.float32_rate,
            "utilisation": options.utilisation,
        }
        cards.append(replace(CARDS[name], **{field: value for field, value in given.items() if value is not None}))
    for card in cards:
        if not 0 < card.utilisation <= 1:
            raise ValueError(f"--utilisation is {card.utilisation}; give a share above 0, at most 1")
    return cards
