"""`python -m benchmarks.speed loader`: the loader of VistaDPO against bare decoding and a plain webdataset pipeline."""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.speed.options import LoaderOptions
from benchmarks.speed.table import report_rows
from benchmarks.speed.videos import FPS, write_samples
from datamodules.shards.index import Index
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import EvalPlan
from datamodules.video.facts import VideoFacts
from datamodules.vista import frame_choices
from datamodules.vista.annotations import Annotations
from datamodules.vista.batches import VistaBatch
from datamodules.vista.frame_samplers import ViewFrames
from datamodules.vista.object_negatives import RoiMove
from datamodules.vista.recipe import VistaRecipe
from datamodules.vista.samples import ALL_NEEDS, Needs
from datamodules.vista.span_negatives import RelevantSegment, Reverse
from datamodules.vista.views import Negatives, ViewMaker, membership

#: Key of a sample -> the frames that its views show.
Frames = Mapping[str, Sequence[int]]


@dataclass(slots=True)
class Rate:
    """Rate of one way to read samples.

    Attributes:
        name: of the row.
        workers: processes that read; 0 = the one that asks.
        samples: that were read.
        seconds: by the clock, from the first batch to the last.
        cpu_seconds: of the processor, of all processes, from start to end.
        counted: samples behind `seconds`.
    """

    name: str
    workers: int
    samples: int
    seconds: float
    cpu_seconds: float
    counted: int

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.counted / self.seconds


def loader(options: LoaderOptions) -> dict[str, Any]:
    """Measure and report.

    Returns:
        The content of the report.
    """
    with TemporaryDirectory() as temporary:
        rates = loader_rates(options, Path(temporary))
    bare = rates[0]
    title = (
        f"Loader: {options.samples} samples of {options.video_frames} frames of {options.height} x {options.width}, "
        f"six views of {options.frames}"
    )
    columns: dict[str, Callable[[Rate], str]] = {
        "row": lambda rate: rate.name,
        "workers": lambda rate: str(rate.workers),
        "samples/s": lambda rate: f"{rate.rate:.2f}",
        "of bare": lambda rate: f"{rate.rate / bare.rate:.2f}",
        "CPU s a sample": lambda rate: f"{rate.cpu_seconds / rate.samples:.2f}",
        "of bare in CPU s": lambda rate: f"{bare.cpu_seconds / rate.cpu_seconds:.2f}",
    }
    return report_rows(title, columns, rates, options, lambda rate: asdict(rate) | {"rate": rate.rate})


def loader_rates(options: LoaderOptions, folder: Path) -> list[Rate]:
    """Bare decoding first, then the others with each number of workers.

    Args:
        options: sizes.
        folder: for shards.
    """
    facts = VideoFacts(options.video_frames, FPS, options.width, options.height)
    index_file = write_samples(folder, options.samples, facts, options.seed)
    frames = shown_frames(index_file, options)
    videos = dict(_members(index_file))
    rates = [_timed("bare PyAV decoding", 0, (_bare(videos[key], frames[key]) for key in frames), len(frames))]
    for workers in options.workers:
        rates.append(
            _timed(
                "ours", workers, vista_loader(index_file, options.frames, options.seed, workers=workers), len(frames)
            )
        )
        rates.append(_timed("plain webdataset", workers, plain(index_file, frames, workers), len(frames)))
    return rates


def vista_loader(
    index_file: Path, frames: int, seed: int, needs: Needs = ALL_NEEDS, workers: int = 0
) -> PlanLoader[VistaBatch]:
    """The loader as `VistaPairs` makes it, of single samples in the index's order.

    Args:
        index_file: of the samples.
        frames: frames a view.
        seed: of the negatives.
        needs: the views, and the answers under each.
        workers: processes that read.
    """
    index = Index.read(index_file, "vidpref/vista")
    negatives = Negatives(Reverse(), RelevantSegment(), RoiMove())
    annotations = Annotations.of(index, negatives)
    recipe = VistaRecipe(annotations, ViewMaker(needs, negatives, ViewFrames(frames), seed))
    plan = EvalPlan(
        shard_counts=index.shard_counts, batch_size=1, terms=membership(annotations.levels, annotations.facts)
    )
    return PlanLoader(plan=plan, index=index, recipe=recipe, num_workers=workers)


def plain(index_file: Path, frames: Frames, workers: int) -> Iterable[Any]:
    """A pipeline of webdataset as its own documentation has it, with the same frames decoded."""
    from torch.utils.data import DataLoader
    from webdataset import WebDataset, split_by_worker

    shards = sorted(map(str, index_file.parent.glob("*.tar")))
    dataset = WebDataset(shards, shardshuffle=False, workersplitter=split_by_worker, empty_check=False)
    return DataLoader(dataset.map(partial(_decoded, frames)), batch_size=None, num_workers=workers)


def _decoded(frames: Frames, sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "mp4": _bare(sample["mp4"], frames[sample["__key__"]])}


def _bare(video: bytes, numbers: Sequence[int]) -> NDArray[np.uint8]:
    """Frames as PyAV gives them, in one pass and one thread."""
    wanted, images = set(numbers), []
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                images.append(frame.to_ndarray(format="rgb24"))
            if number == max(wanted):
                break
    return np.stack(images)


def shown_frames(index_file: Path, options: LoaderOptions) -> Frames:
    """The frames that each sample's views show, as the loader asks for them; nothing is decoded for it."""
    shown: dict[str, list[int]] = {}
    asked: set[int] = set()
    blank = torch.zeros(3, options.height, options.width, dtype=torch.uint8)

    def noted(video: Any, indices: Iterable[int]) -> dict[int, Tensor]:
        asked.update(indices)
        return dict.fromkeys(indices, blank)

    with mock.patch.object(frame_choices, "decode_each", noted):
        for batch in vista_loader(index_file, options.frames, options.seed):
            shown[batch.keys[0]] = sorted(asked)
            asked.clear()
    return shown


def _members(index_file: Path) -> Iterator[tuple[str, bytes]]:
    from datamodules.shards.sample_reader import SampleReader

    reader = SampleReader(Index.read(index_file, "vidpref/vista"))
    for position, entry in enumerate(reader.index.entries):
        yield entry.key, reader.read(position, ["mp4"])["mp4"]


def _timed(name: str, workers: int, batches: Iterable[Any], samples: int) -> Rate:
    before, start = _cpu_seconds(), time.perf_counter()
    first = start
    count = 0
    for _ in batches:
        count += 1
        if count == 1 and workers:
            # Starting workers is no part of a rate; what they have prepared by then is.
            first = time.perf_counter()
    end = time.perf_counter()
    if count != samples:
        raise RuntimeError(f"{name} with {workers} workers gave {count} samples, not {samples}")
    counted = count - 1 if workers else count
    return Rate(name, workers, count, end - first, _cpu_seconds() - before, counted)


def _cpu_seconds() -> float:
    """Of this process and of those that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
