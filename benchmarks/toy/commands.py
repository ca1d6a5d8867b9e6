"""What the commands of the demo and the studies share: the folder they run in, their flags, and their console."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

#: The repository, in which the commands run: configurations name their files from there.
ROOT = Path(__file__).resolve().parents[2]
#: Width of tables in characters, with the spread of several seeds.
WIDTH = 150

#: What nearly every stage imports, for a good part of the time that a short one takes.
PRELOAD = (
    "callbacks.cli.command_line",
    "peft",
    "transformers.models.video_llava.modeling_video_llava",
    "diffusers.models.autoencoders.autoencoder_kl_wan",
    "diffusers.models.transformers.transformer_wan",
)


def flags(options: Mapping[str, object]) -> list[str]:
    """Option -> value, as arguments of a command line."""
    return [str(part) for option_and_value in options.items() for part in option_and_value]


def from_root(output: Path) -> Path:
    """A folder as the commands may name it: from the root a relative path is right, and shorter in the records."""
    return output if Path.cwd() == ROOT else output.resolve()


def wide_console() -> Console:
    """A console in which tables keep their lines, also where the terminal is narrower."""
    return Console(width=max(Console().width, WIDTH))
