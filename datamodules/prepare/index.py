"""`vidpref prepare index` and `vidpref prepare verify`: shards that others wrote, and whether shards are sound."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from datamodules.prepare.verify import verify
from datamodules.schemas import index_shards
from datamodules.shards.index import Index
from datamodules.shards.output_lock import locks_output

#: Seconds between two lines on how far a verification is: on a terminal, where one takes the other's place, and in a
#: log.
TERMINAL_S, LOG_S = 0.5, 20.0


@locks_output("output")
def prepare_index(shards: list[str], output: str, schema: str = "vidpref/vista", made_from: str | None = None) -> None:
    """Make the index of tar shards that exist already.

    Args:
        shards: tar files or patterns such as 'data/train-*.tar', all in one folder.
        output: the index to write, NAME.index.json in the folder of the shards.
        schema: what the shards hold.
        made_from: for side shards such as labels, the index of the shards that they add to.

    Raises:
        ValueError: everything that is wrong with any of the shards, or where the index would lie.
    """
    # A file of exactly that name is meant itself, though it may read as a pattern: tr[ai]n-000000.tar.
    named = {pattern: [] if Path(pattern).is_file() else sorted(glob.glob(pattern)) for pattern in shards}
    # A pattern that fits no file stays, and is reported as a missing shard.
    paths = [path for pattern in shards for path in (named[pattern] or [pattern])]
    target = Path(output)
    if not output.endswith(".index.json"):
        raise ValueError(f"{output}: call it NAME.index.json")
    if target.exists():
        raise ValueError(f"{output}: is there already; delete it, or choose another name")
    if any(Path(path).parent.resolve() != target.parent.resolve() for path in paths):
        raise ValueError(f"{output}: must be in the folder of its shards, which is how they are found")
    source = None if made_from is None else {"fingerprint": Index.read(made_from).fingerprint}
    index = index_shards(paths, schema, made_from=source)
    index.write(target)
    Console().print(f"{output}: {len(index)} samples in {len(index.shards)} shards", highlight=False, soft_wrap=True)


class Pace:
    """Progress lines of a verification, at most one in so many seconds.

    Args:
        index: what is verified.
        show: gets the line.
        every_s: seconds between two lines; the first comes after as many.
    """

    def __init__(self, index: str, show: Callable[[str], object], every_s: float) -> None:
        self.index = index
        self.show = show
        self.every_s = every_s
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """So many of all shards or samples are verified."""
        now = time.monotonic()
        if now - self._last >= self.every_s:
            self._last = now
            self.show(f"verifying {self.index}: {done:,} of {total:,} {what}")


def prepare_verify(index: str, decode: bool = True) -> None:
    """Check every byte of an index's shards.

    Args:
        index: NAME.index.json, a local path or an http(s) or s3 address.
        decode: also decode every video, picture, tensor and row.

    Raises:
        ValueError: every problem, one a line, naming shard and key.
    """
    console = Console(stderr=True)
    with console.status(f"verifying {index}") as status:
        show = status.update if console.is_terminal else partial(console.print, highlight=False, soft_wrap=True)
        problems = verify(index, decode, tell=Pace(index, show, TERMINAL_S if console.is_terminal else LOG_S))
    if problems:
        raise ValueError("\n".join([f"{len(problems)} problem{'s' * (len(problems) > 1)}:", *problems]))
    Console().print(f"{index}: sound", highlight=False, soft_wrap=True)
