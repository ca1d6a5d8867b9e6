"""Which modules of a model a LoRA adapter goes to: PEFT's usual forms, kept to the part that an adapter can train."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

#: PEFT's word for every linear layer but the output head.
ALL_LINEAR = "all-linear"
#: Names listed in a message.
LISTED = 10

Targets = str | list[str]


@dataclass(frozen=True, slots=True)
class AdapterRoom:
    """The part of a model in which adapters train, by the names of its modules.

    Attributes:
        root: the module whose linears `all-linear` means, the language decoder or the transformer; "" = the model.
        blocks: its blocks, each of which needs an adapter.
        head: the output head, which `all-linear` leaves out.
        closed: modules through which no gradient passes, or that train as a whole; no adapter inside.
    """

    root: str
    blocks: tuple[str, ...]
    head: str = ""
    closed: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: nn.Module,
        root: nn.Module,
        blocks: Iterable[nn.Module],
        head: nn.Module | None = None,
        closed: Collection[str] = (),
    ) -> AdapterRoom:
        """The part of a model given by its modules, before there are adapters in it; `closed` by their names."""
        names = {id(module): name for name, module in model.named_modules()}
        head_name = "" if head is None else names[id(head)]
        return cls(names[id(root)], tuple(names[id(block)] for block in blocks), head_name, tuple(closed))

    def is_closed(self, name: str) -> bool:
        """Whether a module or parameter of this name is one that no adapter can train."""
        return any(_inside(name, part) for part in self.closed)


def lora_targets(model: nn.Module, targets: Targets, room: AdapterRoom, some_blocks: bool) -> Targets:
    """The modules that get an adapter: what the targets name, without what lies in the closed part.

    Args:
        model: the model, without adapters.
        targets: `all-linear`, a name or several (a module's whole name or its end), or a regular expression that a
            module's whole name must match.
        room: where adapters train.
        some_blocks: blocks without an adapter are intended.

    Returns:
        What PEFT takes: the targets as they are if they reach nothing closed, else whole names of modules.

    Raises:
        ValueError: there is no target, one names nothing, or only what no adapter can train, or is no regular
            expression, or a block is left without an adapter.
    """
    names = [name for name, _ in model.named_modules() if name]
    if targets == ALL_LINEAR:
        linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        inside = [name for name in linears if _inside(name, room.root) and name != room.head]
        chosen = [name for name in inside if not room.is_closed(name)]
        _require_blocks(targets, chosen, room, some_blocks)
        return chosen
    if not targets:
        raise ValueError("lora.targets is empty; leave it out for the usual linears, or name at least one")
    chosen = []
    for target in [targets] if isinstance(targets, str) else targets:
        matches = [name for name in names if _matches(target, name, isinstance(targets, str))]
        _require_open(target, matches, model, room)
        chosen += [name for name in matches if name not in chosen]
    reached = [name for name in chosen if not room.is_closed(name)]
    _require_blocks(targets, reached, room, some_blocks)
    if len(reached) == len(chosen):
        # What the user gave is shorter and says the same; PEFT takes a plain name in a list only.
        return [targets] if isinstance(targets, str) and _is_name(targets) else targets
    closed = [name for name in chosen if room.is_closed(name)]
    parts = [part for part in room.closed if any(_inside(name, part) for name in closed)]
    _say(
        f"lora.targets {targets!r}: {len(closed)} of the modules so named are in {' and '.join(parts)}, where no "
        f"adapter can train, and get none; {len(reached)} others get one, the first is {reached[0]}"
    )
    return reached


@cache
def _say(message: str) -> None:
    """Once a process: a policy is built more than once, to be checked, sharded or copied."""
    rank_zero_info(message)


def _inside(name: str, part: str) -> bool:
    return not part or name == part or name.startswith(f"{part}.")


def _is_name(target: str) -> bool:
    """Whether a text is a module's name, or the end of one, rather than a regular expression."""
    return re.fullmatch(r"\w+(\.\w+)*", target) is not None


def _matches(target: str, name: str, alone: bool) -> bool:
    """PEFT's rule, and a text that stands alone may also be a plain name."""
    try:
        if alone and re.fullmatch(target, name):
            return True
    except re.error as error:
        raise ValueError(f"lora.targets: {target!r} is neither a name nor a regular expression ({error})") from error
    return (not alone or _is_name(target)) and (name == target or name.endswith(f".{target}"))


def _require_open(target: str, matches: Sequence[str], model: nn.Module, room: AdapterRoom) -> None:
    """Refuse a target that names nothing, or nothing that an adapter can train."""
    if not matches:
        linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        in_blocks = [name for name in linears if any(_inside(name, block) for block in room.blocks)]
        known = dict.fromkeys(re.sub(r".*?blocks?\.\d+\.|.*?layers\.\d+\.", "", name) for name in in_blocks)
        raise ValueError(
            f"lora.targets: {target!r} names no module; the linears of the blocks are {', '.join(known)}; give names, "
            f"{ALL_LINEAR}, or a regular expression that the whole name matches (one such name is {in_blocks[0]})"
        )
    if all(room.is_closed(name) for name in matches):
        raise ValueError(
            f"lora.targets: {target!r} reaches only what no adapter can train, which is frozen or trains as a whole: "
            f"{_listed(matches)}; name linears outside {' and '.join(room.closed)}"
        )


def _require_blocks(targets: Targets, reached: Sequence[str], room: AdapterRoom, some_blocks: bool) -> None:
    """Refuse targets that leave blocks without an adapter, unless that is intended."""
    bare = [block for block in room.blocks if not any(_inside(name, block) for name in reached)]
    if bare and not some_blocks:
        raise ValueError(
            f"lora.targets {targets!r} reaches {len(room.blocks) - len(bare)} of {len(room.blocks)} blocks and misses "
            f"{_listed(bare)}; let it match a linear of every block, or set lora.some_blocks: true if that is intended"
        )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
