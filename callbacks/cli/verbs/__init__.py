"""The verbs of the command, one file a verb; a file is imported when its verb is used: --help answers at once.

Each file has `main(arguments) -> int`: the verb and the arguments behind it in, the exit status out.
"""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """A verb: the module that runs it, and what ``vidpref --help`` says of it."""

    module: str
    summary: str


_TRAINER = "callbacks.cli.verbs.trainer"

VERBS = {
    "prepare": Verb("callbacks.cli.verbs.prepare", "turn videos and annotations into shards, index and verify shards"),
    "check": Verb("callbacks.cli.verbs.check", "what a fit would stumble over: without weights, without a GPU"),
    "estimate": Verb("callbacks.cli.verbs.estimate", "memory, operations and hours of a fit, without weights or a GPU"),
    "fit": Verb(_TRAINER, "train; run the same command again to resume"),
    "validate": Verb(_TRAINER, "the loss and its terms on validation data"),
    "test": Verb(_TRAINER, "run a benchmark"),
    "predict": Verb(_TRAINER, "write what a model makes of data: reference scores, pairs, labels, latents, videos"),
    "export": Verb("callbacks.cli.verbs.export", "write the adapter, or the model, that a checkpoint of a run holds"),
    "label": Verb("callbacks.cli.verbs.label", "a page in the browser: people say which video of a pair is better"),
    "run": Verb("callbacks.cli.verbs.run", "a recipe: all stages from data to a report, each once, by one command"),
    "ask": Verb("callbacks.cli.verbs.ask", "one question about one video, to a policy with or without an adapter"),
}


def table(rows: dict[str, str]) -> str:
    """Names and what they are, one a line, in two columns."""
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())
