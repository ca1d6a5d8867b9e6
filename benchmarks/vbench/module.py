"""VBench on a folder of videos: `vidpref test` scores every video once and continues where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

from benchmarks.base.paper_tables import PaperRow, find_row
from benchmarks.base.source import Source
from benchmarks.vbench.chosen_measures import available, measures_of
from benchmarks.vbench.measures import Scoring, Watchers, for_each, scored_on, setting_of, start
from benchmarks.vbench.motion import Interpolation
from benchmarks.vbench.networks import FrameNetwork
from benchmarks.vbench.observations import Observations, read_observations
from benchmarks.vbench.published_files import merged_results
from benchmarks.vbench.result_files import TITLE, write_results
from benchmarks.vbench.rules import DIMENSIONS
from benchmarks.vbench.score_log import ScoreLog
from benchmarks.vbench.scores import VBenchMetric, folder_scores, mean_flow, static_only, with_observed
from benchmarks.vbench.styles import STYLE, ClipStyle, StyleMeasure, styles_in
from datamodules.questions.video_folder import FolderVideo, FrameChunk, VideoFolder
from datamodules.video.optical_flow import OpticalFlow


class VBench(LightningModule):
    """Benchmark of the videos of a `VideoFolder`, on the dimensions whose networks are given; it names the others.

    Into `output` go `answers.jsonl` (a line for each scored video), `NAME_eval_results.json` and
    `NAME_full_info.json` (the two files that VBench's own scripts read), `results.json` (the raw scores in [0, 1],
    `mean_flow` in pixels, quality and semantic and total where nothing of them is missing, what is missing and why, and
    under "about" what the numbers belong to) and `details.json`.

    Args:
        output: the folder for the results; an unfinished scoring in it is continued.
        subject: gives features for subject consistency; null = leave the dimension out, as for all that follow.
        background: gives features for background consistency.
        aesthetic: scores frames from 1 to 10, for aesthetic quality.
        imaging: scores frames from 0 to 100, for imaging quality; left out and named where its package is missing.
        interpolation: makes frames in between, for motion smoothness.
        flow: for dynamic degree; RAFT as published, or OpenCV's DIS, which is a proxy.
        flickering: score temporal flickering, which needs no network.
        static_filter: count for it only videos that are still by `flow`, measured between all frames, and the first
            five of each prompt, as VBench does with its own prompts; false = every video counts.
        name: the files' name.
        observations: files of detections, captions and features by any networks, for the semantic dimensions
            (`observations.KINDS`); the folder's prompts must be VBench's list.
        merge: `*_eval_results.json` of VBench's own scripts, for the dimensions that are not measured here; raw scores
            from 0 to 1, and no two files may disagree.
        appearance: compares frames with the name of their style, for appearance style; the folder's prompts must be
            VBench's list, which names the styles.
    """

    def __init__(
        self,
        output: str,
        subject: FrameNetwork | None = None,
        background: FrameNetwork | None = None,
        aesthetic: FrameNetwork | None = None,
        imaging: FrameNetwork | None = None,
        interpolation: Interpolation | None = None,
        flow: OpticalFlow | None = None,
        flickering: bool = True,
        static_filter: bool = False,
        name: str = "videos",
        observations: list[str] | None = None,
        merge: list[str] | None = None,
        appearance: ClipStyle | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        # Of the options that benchmarks have in common: nobody answers here, so that only those of the output remain.
        source = Source(None, output, predictions=None, name=name, max_new_tokens=0, **options)
        self.output, self.name, self.fresh = Path(source.output), source.name, source.fresh
        self.paper: PaperRow | None = None if source.paper is None else find_row(source.paper, TITLE)
        self._merge_paths = [Path(path) for path in merge or ()]
        self._observation_paths = [Path(path) for path in observations or ()]
        # Lightning moves to the device what is a submodule.
        self.subject, self.background, self.aesthetic, self.imaging = subject, background, aesthetic, imaging
        self.interpolation, self.appearance = interpolation, appearance
        self.measures, self.missing, self._absent = available(
            measures_of(
                subject, background, aesthetic, imaging, interpolation, flow, flickering, static_filter, appearance
            )
        )
        if not self.measures and not observations:
            raise ValueError("no dimension is left to score: give at least one network, or set flickering: true")
        self.metric = VBenchMetric()
        self.log_of_scores = ScoreLog(self.output)
        # Known in `setup`: dimension -> facts of its network; scores from elsewhere, and the file of each.
        self.network_facts: dict[str, dict[str, Any]] = {}
        self.observed = Observations()
        self.merged: dict[str, float] = {}
        self.merged_from: dict[str, str] = {}
        # The videos that are scored on a measured dimension, what earlier starts scored, and those being watched.
        self._asked: dict[str, FolderVideo] = {}
        self._earlier: dict[str, dict[str, Any]] = {}
        self._open: dict[str, Watchers] = {}

    @property
    def videos(self) -> VideoFolder:
        """The data module."""
        source = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(source, VideoFolder):
            raise ValueError(f"VBench scores a VideoFolder, not a {type(source).__name__}")
        return source

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Check everything and read earlier scores, after the folder's own checks and before any weights are loaded.

        Raises:
            ValueError: networks that do not exist (all of them), scores in the output that were made with other
                networks or of other videos, a file to merge or of observations that has another form.
        """
        data = self.videos
        self._set_styles()
        self._asked = {key: video for key, video in data.videos.items() if scored_on(video, self.measures)}
        merged = merged_results(self._merge_paths)
        self.observed = read_observations(self._observation_paths, data.videos, data.asked, data.allow_missing)
        if STYLE in self.measures and STYLE in self.observed.facts:
            raise ValueError(
                f"{STYLE} is measured by model.appearance and is in model.observations too; give one of them"
            )
        if not self._asked and not self.observed.scores:
            measured = ", ".join([*self.measures, *self.observed.facts])
            raise ValueError(f"{data.prompts} has none of the videos scored on {measured}")
        # What is measured or observed here is not overwritten by a merged score.
        elsewhere = [name for name in merged if name in self.missing and name not in self.observed.facts]
        self.merged = {name: merged[name][0] for name in elsewhere}
        self.merged_from = {name: str(merged[name][1]) for name in elsewhere}
        self.network_facts = for_each(self.measures, lambda measure: measure.facts(), "cannot be used")
        for name, reason in self._absent.items():
            rank_zero_warn(f"{name} is left out: {reason}; or set {setting_of(name)} to null")
        settings, log = {"benchmark": TITLE, "dimensions": self.network_facts}, self.log_of_scores
        if self.trainer.is_global_zero:
            log.begin(settings, self.fresh)
        self.trainer.strategy.barrier("scores: begin")
        log.check(settings)
        scored = log.read()
        log.check_videos(scored, data.videos)
        self._earlier = {key: scored[key] for key in self._asked if key in scored}
        self._open = {}
        data.skip(self._earlier.keys() | (data.videos.keys() - self._asked.keys()))
        light = {name: measure for name, measure in self.measures.items() if measure.light}
        data.watch(Scoring(light, [name for name in self.measures if name not in light]))

    def _set_styles(self) -> None:
        """Measure appearance style where the folder's list names styles, and say that it is missing elsewhere."""
        if self.appearance is None:
            return
        if styles := styles_in(self.videos.asked):
            self.measures[STYLE] = StyleMeasure(self.appearance, styles)
            self.missing.pop(STYLE, None)
        else:
            self.measures.pop(STYLE, None)
            self.missing[STYLE] = "needs VBench's list, which names the styles: give data.prompts VBench_full_info.json"

    def configure_model(self) -> None:
        """Load the networks, unless every video is scored."""
        if self.videos.wanted:
            for_each(self.measures, lambda measure: measure.load(), "cannot be loaded")

    def on_test_epoch_start(self) -> None:
        """Add what earlier starts scored, once over all ranks."""
        self.metric.reset()
        self.metric.update(self._earlier if self.trainer.is_global_zero else {})
        for measure in self.measures.values():
            measure.place(self.device)

    def test_step(self, chunk: FrameChunk, batch_idx: int) -> None:
        """Show a chunk to its video's watchers; with the last one the video's line is on disk."""
        if not chunk.key:  # padding of a rank with fewer chunks than others
            return
        video = self._asked[chunk.key]
        if chunk.failed:
            self._open.pop(chunk.key, None)
            if not self.videos.allow_missing:
                raise ValueError(f"{video.path}: {chunk.failed}; fix it, or set allow_missing: true to leave it out")
            self.metric.update({chunk.key: {"skipped": chunk.failed}})
            return
        if chunk.key not in self._open:
            heavy = {name: measure for name, measure in self.measures.items() if not measure.light}
            self._open[chunk.key] = start(heavy, video)
        if chunk.frames is not None:
            self._open[chunk.key].see(chunk.frames, chunk.first)
        if chunk.last:
            # The light measures' scores come with the last chunk, from the process that decoded the video.
            scores = chunk.seen | self._open.pop(chunk.key).result()
            record = {
                "frames": video.facts.frames,
                "scores": {name: scores[name] for name in DIMENSIONS if name in scores},
            }
            line = {"key": chunk.key, "asked": video.fingerprint, **record}
            self.log_of_scores.append(self.global_rank, [line])
            self.metric.update({chunk.key: record})

    def on_test_epoch_end(self) -> None:
        """Gather all ranks' videos and write the files once."""
        data, items = self.videos, self.metric.gathered()
        unscored = [key for key in self._asked if key not in items]
        if unscored:
            raise RuntimeError(
                f"{len(unscored)} videos were not scored, the first is {unscored[0]}; "
                "trainer.limit_test_batches must stay unset, data has a limit of its own"
            )
        skipped = data.left_out | {key: item["skipped"] for key, item in items.items() if "skipped" in item}
        measured = {key: items[key] for key in self._asked if "skipped" not in items[key]}
        prompts = {key: video.prompt for key, video in data.videos.items()}
        videos = with_observed(static_only(measured, prompts), self.observed.scores, data.videos, skipped)
        if not videos:
            raise ValueError("no video could be decoded: nothing is left to score")
        self.trainer.strategy.barrier("scores: written")
        if self.trainer.is_global_zero:
            self.log_of_scores.join(list(self._asked))
            write_results(self, videos, skipped)
        flow = mean_flow(videos)
        logged = folder_scores(videos) | ({} if flow is None else {"mean_flow": flow})
        self.log_dict({f"test/{name}": value for name, value in logged.items()})
