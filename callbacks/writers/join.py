"""Parts to one result: of preparations and of predictions, by one command."""

from __future__ import annotations

from pathlib import Path

from callbacks.writers.joined import JoinedWriter
from callbacks.writers.jsonl import JsonlWriter
from callbacks.writers.shards import ShardWriter
from datamodules.prepare.join import prepare_join


def join_parts(output: str) -> None:
    """Join the parts that `prepare` or `predict` wrote with `--part 1/N` to `--part N/N`: the files of one run.

    The samples are packed again, each checked against its checksum. The parts of a preparation stay; those of a
    prediction are removed when they are joined.

    Args:
        output: what the parts were made to: folder and common name of shards, or a .jsonl file.

    Raises:
        ValueError: a part is missing, is not finished or of other options; samples are not there; files of others.
    """
    writer: JoinedWriter = JsonlWriter(output) if Path(output).suffix == ".jsonl" else ShardWriter(output)
    if writer.parts.is_dir():
        writer.join_parts()
    else:
        prepare_join(output)
