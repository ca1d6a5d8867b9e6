"""The JSON records of an index's samples, read without their videos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datamodules.shards.byte_reader import BadSampleError, ReadFailedError
from datamodules.shards.sample_reader import SampleReader

#: Reads that wait for an answer at the same time; of shards behind HTTP a read is mostly waiting.
_THREADS = 8


def sample_rows(samples: SampleReader, positions: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Position and record of every sample that can be read; the others are left to the run, which says why.

    Args:
        samples: of an index whose samples have a record each.
        positions: the samples, by their position in the index.
    """

    def record(position: int) -> tuple[int, dict[str, Any] | None]:
        try:
            content: dict[str, Any] = json.loads(samples.read(position, ["json"])["json"])
        except (BadSampleError, ReadFailedError):
            return position, None
        return position, content

    with ThreadPoolExecutor(_THREADS) as threads:
        for position, content in threads.map(record, positions):
            if content is not None:
                yield position, content
