"""``predict --part 2/8``: one share of a prediction, for a machine that knows nothing of the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from callbacks.writers.base import PredictWriter
from datamodules.prepare.parts import Part


def add_part(parser: LightningArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--part",
        type=str | None,
        default=None,
        help="make this share of the samples alone, as 2/8; `vidpref prepare join` makes one result of all",
    )


def own_places(settings: Any) -> None:
    """Move a part's logs, and the replies of its judge, to places of their own: machines would write over each other.

    Args:
        settings: the configuration of `predict`.

    Raises:
        ValueError: the option names no part.
    """
    if settings.get("part") is None:
        return
    part = Part.parsed(settings["part"])
    root = Path(settings["trainer"]["default_root_dir"] or ".")
    settings["trainer"]["default_root_dir"] = str(root / f"part{part.number}of{part.count}")
    model = settings.get("model")
    if model is not None and (replies := model.get("init_args.replies")) is not None:
        path = Path(replies)
        model["init_args.replies"] = f"{part.prefix(path.with_suffix(''))}{path.suffix}"


def hand_over(settings: Any, callbacks: Iterable[Any]) -> None:
    """Have the writers make that part."""
    if settings.get("part") is not None:
        for writer in callbacks:
            if isinstance(writer, PredictWriter):
                writer.part = Part.parsed(settings["part"])
