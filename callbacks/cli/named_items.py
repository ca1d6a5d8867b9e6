"""Flags for any item of a list of classes, by its class name: ``--trainer.callbacks.ReferenceModel.cache X``."""

from __future__ import annotations

from argparse import Action
from typing import Any

from jsonargparse import ArgumentParser, Namespace


class NamedItems(Action):
    """An option, on top of jsonargparse's own kind of it (see `address_by_name`), whose value is a list of classes.

    A flag may address any of them by the name of its class.

    jsonargparse's own flags reach the last item only; they work as before. A flag sees the list as it is where the
    flag stands: behind the configurations, and the flags before it.
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
        given = config.get(self.dest)
        items = given if isinstance(given, list) else [] if given is None else [given]
        position = self._position(name, [class_name(item) for item in items])
        item = items[position]
        # The flag without the name is for the last one: make the item that, and put it back in its place.
        config.update([*items[:position], *items[position + 1 :], item], self.dest)
        super().__call__(parser, config, value, prefix + key, **kwargs)
        *others, item = config.get(self.dest)
        config.update([*others[:position], item, *others[position:]], self.dest)
        return None

    def _position(self, name: str, names: list[str]) -> int:
        if (count := names.count(name)) == 1:
            return names.index(name)
        there = ", ".join(dict.fromkeys(names)) or "none"
        if count:
            raise TypeError(
                f'Parser key "{self.dest}": {name} occurs {count} times in this list, so that its name does not say '
                "which one is meant; write the list out in a --config file"
            )
        raise TypeError(
            f'Parser key "{self.dest}": there is no {name} in this list; there are: {there}. '
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
            action.__class__ = type(kind.__name__, (NamedItems, kind), {})
