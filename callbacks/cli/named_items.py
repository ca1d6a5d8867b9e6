"""Flags for any item of a list of classes, by its class name: ``--trainer.callbacks.ReferenceModel.cache X``."""

from __future__ import annotations

from argparse import Action
from typing import Any

from jsonargparse import ArgumentParser, Namespace


class NamedItems(Action):
    """Parser action of a list of classes, whose flags may address any item by the name of its class.

    It is mixed into jsonargparse's own action (see `address_by_name`), whose flags reach the last item only and work as
    before. A flag sees the list as the configurations and the flags before it have left it.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Set the option, or one parameter of one item of it.

        Raises:
            TypeError: no item has this class name, or several have it.
        """
        parser, config, value, option = args
        prefix = f"--{self.dest}."
        name, _, key = option.removeprefix(prefix).partition(".") if str(option).startswith(prefix) else ("", "", "")
        if not name[:1].isupper() or not key:
            return super().__call__(*args, **kwargs)
        value_so_far = config.get(self.dest)
        items = value_so_far if isinstance(value_so_far, list) else [] if value_so_far is None else [value_so_far]
        position = self._position(name, [class_name(item) for item in items])
        item = items[position]
        # jsonargparse applies a flag without a name to the last item: move the item there, and back to its place.
        config.update([*items[:position], *items[position + 1 :], item], self.dest)
        super().__call__(parser, config, value, prefix + key, **kwargs)
        *others, item = config.get(self.dest)
        config.update([*others[:position], item, *others[position:]], self.dest)
        return None

    def _position(self, name: str, names: list[str]) -> int:
        if (count := names.count(name)) == 1:
            return names.index(name)
        listed = ", ".join(dict.fromkeys(names)) or "none"
        if count:
            raise TypeError(
                f'Parser key "{self.dest}": {name} occurs {count} times in this list, so that its name does not say '
                "which one is meant; write the list out in a --config file"
            )
        raise TypeError(
            f'Parser key "{self.dest}": there is no {name} in this list; there are: {listed}. '
            f"--{self.dest}+={name} adds one"
        )


def class_name(item: Any) -> str:
    """The name of an item's class without its module; the item as parsed, or still a text."""
    path = item.get("class_path", "") if isinstance(item, Namespace | dict) else str(item)
    return str(path).rpartition(".")[2]


def address_by_name(parser: ArgumentParser, *options: str) -> None:
    """Make the items of these options, where the parser has them, addressable by their class names."""
    for action in parser._actions:
        if action.dest in options and not isinstance(action, NamedItems):
            kind = type(action)
            # The parser holds this object in several places, so it is not replaced by another one.
            action.__class__ = type(kind.__name__, (NamedItems, kind), {})
