"""Opening an index of many samples: time and memory of a rank and of a spawned worker, in both formats."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload
from unittest import mock

from rich.console import Console
from rich.table import Table

from benchmarks.speed.options import IndexOptions
from benchmarks.speed.report import WIDTH, environment
from datamodules.shards import index as index_module
from datamodules.shards.index import Index, Member, SampleEntry, ShardEntry

_SAMPLES_PER_SHARD = 64
_VIDEO_BYTES, _ROW_BYTES = 1 << 20, 600
_FORMATS = {"1, JSON": 1 << 62, "2, columns": 0}


class MadeUpEntries(Sequence[SampleEntry]):
    """Samples as VistaDPO's shards have them, made when they are asked for.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, position: int) -> SampleEntry: ...

    @overload
    def __getitem__(self, position: slice) -> list[SampleEntry]: ...

    def __getitem__(self, position: int | slice) -> SampleEntry | list[SampleEntry]:
        if isinstance(position, slice):
            return [self[place] for place in range(*position.indices(self._count))]
        if position >= self._count:
            raise IndexError(position)
        start = (position % _SAMPLES_PER_SHARD) * (_VIDEO_BYTES + _ROW_BYTES)
        checksum = f"{position:032x}"
        members = {
            "json": Member(start, _ROW_BYTES, checksum),
            "mp4": Member(start + _ROW_BYTES, _VIDEO_BYTES, checksum),
        }
        second = position % 97 / 10
        facts = {
            "video_id": f"videos/{position // 3:08d}.mp4",
            "frames": 240 + position % 60,
            "fps": 25.0,
            "width": 640,
            "height": 360,
            "event": [second, second + 2.5],
            "boxes": [[64.0, 32.5, 120.0, 80.0, second + 1], [70.0, 30.5, 121.0, 82.0, second + 2]],
            "irrelevant": True,
            "clip": None,
            "clip_negative": None,
            "key_frame": False,
            "source": "made up",
        }
        return SampleEntry(f"train-{position:08d}", position // _SAMPLES_PER_SHARD, members, facts)

    def __iter__(self) -> Iterator[SampleEntry]:
        return map(self.__getitem__, range(self._count))


@dataclass(frozen=True, slots=True)
class IndexMeasurement:
    """Measurements of an index in one format, one row of the table.

    Attributes:
        format: its name in the table.
        file_bytes: of the index and its columns.
        open_seconds: of `Index.read` in a process that has read none.
        open_cpu: of it, seconds of a processor; on a busy machine these say more.
        own_bytes: what that adds to the memory that is the process's own.
        shared_bytes: and to the pages of files, which all processes have together; they can be dropped at any time.
        worker_seconds: from starting a process by spawn with the index to a sample of it there, less what a process
            without one takes.
        worker_cpu: seconds of a processor in both processes, likewise.
        worker_bytes: what the index adds to the worker's own memory.
    """

    format: str
    file_bytes: int
    open_seconds: float
    open_cpu: float
    own_bytes: int
    shared_bytes: int
    worker_seconds: float
    worker_cpu: float
    worker_bytes: int


def index(options: IndexOptions) -> dict[str, Any]:
    """Write indexes of made-up samples, open them, and print the table."""
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, columns_from in _FORMATS.items():
            if columns_from and not options.former:
                continue
            path = Path(folder) / f"format-{name[0]}.index.json"
            with mock.patch.object(index_module, "COLUMNS_FROM", columns_from):
                made_up_index(options.rows).write(path)
            rows.append(_measured(name, path, options))
    environment_ = environment()
    Console(width=WIDTH).print(_table(f"index of {options.rows:,} samples", rows))
    result = {
        "title": "index",
        "options": asdict(options),
        "environment": environment_,
        "rows": [asdict(row) for row in rows],
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2, default=str) + "\n")
    return result


def made_up_index(count: int) -> Index:
    """An index of so many made-up samples, whose shards need not be there."""
    counts = [_SAMPLES_PER_SHARD] * (count // _SAMPLES_PER_SHARD)
    counts += [count % _SAMPLES_PER_SHARD] if count % _SAMPLES_PER_SHARD else []
    size = _SAMPLES_PER_SHARD * (_VIDEO_BYTES + _ROW_BYTES)
    shards = tuple(
        ShardEntry(f"train-{number:06d}.tar", size, f"{number:064x}", held) for number, held in enumerate(counts)
    )
    return Index("vidpref/vista", shards, MadeUpEntries(count))


def _measured(name: str, path: Path, options: IndexOptions) -> IndexMeasurement:
    """The medians over the rounds, each in a process of its own."""
    rounds = [_in_new_process(_opened, str(path)) for _ in range(options.repeats)]
    opened = sorted(rounds, key=lambda measured: measured["seconds"])[len(rounds) // 2]
    files = [path, *path.parent.glob(f"{path.name.removesuffix('.json')}-*.arrow")]
    return IndexMeasurement(
        name,
        sum(file.stat().st_size for file in files),
        opened["seconds"],
        opened["cpu"],
        opened["own"],
        opened["shared"],
        opened["worker_seconds"],
        opened["worker_cpu"],
        opened["worker_own"],
    )


def _opened(path: str) -> Mapping[str, Any]:
    """In a new process: open the index, and start a worker with it."""
    import pyarrow  # noqa: F401 its loading is no part of opening an index: torch has loaded as much

    before = _memory()
    start, start_cpu = time.perf_counter(), time.process_time()
    opened = Index.read(path)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    after = _memory()
    empty, sent = (_worker(given) for given in (None, opened))
    return {
        "seconds": seconds,
        "cpu": cpu,
        "own": after["RssAnon"] - before["RssAnon"],
        "shared": after["RssFile"] - before["RssFile"],
        "worker_seconds": sent[0] - empty[0],
        "worker_cpu": sent[1] - empty[1],
        "worker_own": sent[2] - empty[2],
    }


def _worker(given: Index | None) -> tuple[float, float, int]:
    """Seconds until a spawned process has read a sample, of the clock and of processors, and its own memory then."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    start, start_cpu = time.perf_counter(), time.process_time()
    process = context.Process(target=_read_in_worker, args=(given, sender))
    process.start()
    cpu, own = receiver.recv()
    seconds, cpu = time.perf_counter() - start, cpu + time.process_time() - start_cpu
    process.join()
    return seconds, cpu, own


def _read_in_worker(given: Index | None, sender: Any) -> None:
    import pyarrow  # noqa: F401 with or without an index, so that the difference is the index's

    if given is not None:
        given.entries[len(given) // 2]
    sender.send((time.process_time(), _memory()["RssAnon"]))


def _in_new_process(work: Callable[[str], Mapping[str, Any]], path: str) -> Mapping[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, path).result()


def _memory() -> dict[str, int]:
    """Bytes of this process in memory by kind, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


def _table(title: str, rows: Sequence[IndexMeasurement]) -> Table:
    table = Table(title=title)
    columns = ("format", "MB", "open, s", "CPU s", "own MiB", "shared MiB", "spawned worker, s", "CPU s", "own MiB")
    for column in columns:
        table.add_column(column, justify="left" if column == "format" else "right")
    for row in rows:
        memory = [f"{size / 2**20:.0f}" for size in (row.own_bytes, row.shared_bytes)]
        table.add_row(
            row.format,
            f"{row.file_bytes / 1e6:.0f}",
            f"{row.open_seconds:.2f}",
            f"{row.open_cpu:.2f}",
            *memory,
            f"{row.worker_seconds:.2f}",
            f"{row.worker_cpu:.2f}",
            f"{row.worker_bytes / 2**20:.0f}",
        )
    return table
