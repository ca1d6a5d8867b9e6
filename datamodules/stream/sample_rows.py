"""The JSON records of an index's samples, read without their videos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datamodules.shards.byte_reader import BadSampleError
from datamodules.shards.sample_reader import SampleReader

#: Reads that wait for an answer at the same time; of shards behind HTTP a read is mostly waiting.
_THREADS = 8


def sample_rows(
    samples: SampleReader, positions: Iterable[int]
) -> Iterator[tuple[int, dict[str, Any] | BadSampleError]]:
    """Position and record of every sample, or what is wrong with its bytes.

    Args:
        samples: of an index whose samples have a record each.
        positions: the samples, by their position in the index.

    Raises:
        ReadFailedError: bytes cannot be had.
    """

    def record(position: int) -> tuple[int, dict[str, Any] | BadSampleError]:
        try:
            return position, json.loads(samples.read(position, ["json"])["json"])
        except BadSampleError as error:
            return position, error

    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(record, positions)
