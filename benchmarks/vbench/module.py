"""VBench on a folder of videos: `vidpref test` scores every video once and continues where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console

from benchmarks.base.bootstrap import LEVEL, RESAMPLES, recorded_units
from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.paper_tables import PaperRow, find_row
from benchmarks.base.results import ABOUT, DETAILS_FILE, RESULTS_FILE, provenance, write_json, write_units
from benchmarks.base.scoreboard import scoreboard
from benchmarks.vbench.flow_measures import Dynamics, StaticFlickering
from benchmarks.vbench.measures import (
    Flickering,
    Measure,
    NetworkMeasure,
    Scoring,
    Smoothness,
    Watchers,
    for_each,
    scored_on,
    setting_of,
    start,
)
from benchmarks.vbench.motion import Interpolation
from benchmarks.vbench.networks import FrameNetwork, package_versions
from benchmarks.vbench.observations import Observations, read_observations
from benchmarks.vbench.results import (
    ScoreLog,
    VBenchMetric,
    eval_results,
    folder_results,
    folder_scores,
    full_info,
    headline_addresses,
    mean_flow,
    merged_results,
    number_marks,
    remarks,
    score_intervals,
    static_only,
    with_observed,
)
from benchmarks.vbench.rules import DIMENSIONS
from benchmarks.vbench.styles import STYLE, ClipStyle, StyleMeasure, styles_in
from datamodules.questions.video_folder import FolderVideo, FrameChunk, VideoFolder
from datamodules.video.optical_flow import OpticalFlow

TITLE = "VBench"
PROTOCOL = (
    "VBench 45e79ec1, one process: consistencies weigh every pair of frames alike, detections, captions and appearance "
    "style every frame, all others every video"
)


class VBench(LightningModule):
    """Scores the videos of a `VideoFolder` on the dimensions whose networks are given; names the others as missing.

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
        static_filter: count for it only videos that stand still by `flow`, measured between all frames, and the first
            five of each prompt, as VBench does with its own prompts; false = every video counts.
        name: what the files are called after.
        fresh: forget the scores that an earlier start left in `output`.
        paper: a row of a published table to print beside the results, as `dense_dpo/table1/DenseDPO`.
        observations: files of what somebody's detectors, captioners and text encoders saw, for the semantic
            dimensions (`observations.SIGHTS`); the folder's prompts must be VBench's list.
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
        fresh: bool = False,
        paper: str | None = None,
        observations: list[str] | None = None,
        merge: list[str] | None = None,
        appearance: ClipStyle | None = None,
    ) -> None:
        super().__init__()
        if static_filter and not (flow and flickering):
            raise ValueError("static_filter tells which videos flickering counts, by flow: give both")
        self.output = Path(output)
        self.name, self.fresh = name, fresh
        self.paper: PaperRow | None = None if paper is None else find_row(paper, TITLE)
        self.merge = [Path(path) for path in merge or ()]
        self.observations = [Path(path) for path in observations or ()]
        # Lightning moves to the device what is a submodule.
        self.subject, self.background, self.aesthetic, self.imaging = subject, background, aesthetic, imaging
        self.appearance = appearance
        self.interpolation = interpolation
        any_or_static = StaticFlickering(flow) if static_filter and flow else Flickering()
        given = {
            "subject_consistency": subject and NetworkMeasure(subject, consistent=True),
            "background_consistency": background and NetworkMeasure(background, consistent=True),
            "temporal_flickering": any_or_static if flickering else None,
            "motion_smoothness": interpolation and Smoothness(interpolation),
            "dynamic_degree": flow and Dynamics(flow),
            "aesthetic_quality": aesthetic and NetworkMeasure(aesthetic, scale=0.1),
            "imaging_quality": imaging and NetworkMeasure(imaging),
            STYLE: appearance and StyleMeasure(appearance),
        }
        self._given = {name: one for name, one in given.items() if isinstance(one, Measure)}
        #: Dimension -> why it cannot be measured although its network is given.
        self._absent = {name: why for name, one in self._given.items() if (why := one.absent()) is not None}
        self.measures = {name: one for name, one in self._given.items() if name not in self._absent}
        #: Dimension -> why it is not measured.
        self.missing = {
            name: self._absent.get(name) or ("network not given" if name in given else "not measured here")
            for name in DIMENSIONS
            if name not in self.measures
        }
        if not self.measures and not self.observations:
            raise ValueError("no dimension is left to score: give at least one network, or set flickering: true")
        self.metric = VBenchMetric()
        self.log_of_scores = ScoreLog(self.output)
        self._merged: dict[str, float] = {}
        #: Dimension -> the file that its merged score is from.
        self._merged_from: dict[str, str] = {}
        self._observed = Observations()
        self._facts: dict[str, dict[str, Any]] = {}
        self._earlier: dict[str, dict[str, Any]] = {}
        self._open: dict[str, Watchers] = {}
        #: The videos that have a dimension that is measured, by name.
        self._asked: dict[str, FolderVideo] = {}

    @property
    def videos(self) -> VideoFolder:
        """The data module."""
        source = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(source, VideoFolder):
            raise ValueError(f"VBench scores a VideoFolder, not a {type(source).__name__}")
        return source

    @property
    def _prompts(self) -> dict[str, str]:
        return {key: one.prompt for key, one in self.videos.videos.items()}

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Look what is scored already, after the folder's own checks and before any weights are loaded.

        Raises:
            ValueError: networks that do not exist (all of them), scores in the output that were made with other
                networks or of other videos, a file to merge or of observations that is none.
        """
        data = self.videos
        self._set_styles()
        self._asked = {key: one for key, one in data.videos.items() if scored_on(one, self.measures)}
        merged = merged_results(self.merge)
        self._observed = read_observations(self.observations, data.videos, data.asked, data.allow_missing)
        if STYLE in self.measures and STYLE in self._observed.facts:
            raise ValueError(
                f"{STYLE} is measured by model.appearance and is in model.observations too; give one of them"
            )
        if not self._asked and not self._observed.scores:
            measured = ", ".join([*self.measures, *self._observed.facts])
            raise ValueError(f"{data.prompts} has none of the videos scored on {measured}")
        self._merged = {name: value for name, (value, _) in merged.items()
                        if name in self.missing and name not in self._observed.facts}  # fmt: skip
        self._merged_from = {name: str(merged[name][1]) for name in self._merged}
        self._facts = for_each(self.measures, lambda one: one.facts(), "cannot be used")
        for name, why in self._absent.items():
            rank_zero_warn(f"{name} is left out: {why}; or set {setting_of(name)} to null")
        settings, log = {"benchmark": TITLE, "dimensions": self._facts}, self.log_of_scores
        if self.trainer.is_global_zero:
            log.begin(settings, self.fresh)
        self.trainer.strategy.barrier("scores: begin")
        log.check(settings)
        found = log.read()
        log.check_videos(found, data.videos)
        self._earlier = {key: found[key] for key in self._asked if key in found}
        self._open = {}
        data.skip(self._earlier.keys() | (data.videos.keys() - self._asked.keys()))
        heavy = [name for name, one in self.measures.items() if not one.light]
        data.watch(Scoring({name: one for name, one in self.measures.items() if one.light}, heavy))

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
            for_each(self.measures, lambda one: one.load(), "cannot be loaded")

    def on_test_epoch_start(self) -> None:
        """Take in, once over all ranks, what earlier starts scored."""
        self.metric.reset()
        self.metric.update(self._earlier if self.trainer.is_global_zero else {})
        for measure in self.measures.values():
            measure.place(self.device)

    def test_step(self, chunk: FrameChunk, batch_idx: int) -> None:
        """Show a chunk to its video's watchers; with the last one the video's line is on disk."""
        if not chunk.key:
            return
        video = self._asked[chunk.key]
        if chunk.failed:
            self._open.pop(chunk.key, None)
            if not self.videos.allow_missing:
                raise ValueError(f"{video.path}: {chunk.failed}; fix it, or set allow_missing: true to leave it out")
            self.metric.update({chunk.key: {"skipped": chunk.failed}})
            return
        if chunk.key not in self._open:
            heavy = {name: one for name, one in self.measures.items() if not one.light}
            self._open[chunk.key] = start(heavy, video)
        if chunk.frames is not None:
            self._open[chunk.key].see(chunk.frames, chunk.first)
        if chunk.last:
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
        lost = [key for key in self._asked if key not in items]
        if lost:
            raise RuntimeError(
                f"{len(lost)} videos were not scored, the first is {lost[0]}; trainer.limit_test_batches must stay "
                "unset, data has a limit of its own"
            )
        skipped = data.left_out | {key: one["skipped"] for key, one in items.items() if "skipped" in one}
        measured = {key: items[key] for key in self._asked if "skipped" not in items[key]}
        videos = with_observed(static_only(measured, self._prompts), self._observed.scores, data.videos, skipped)
        if not videos:
            raise ValueError("no video could be decoded: nothing is left to score")
        self.log_of_scores.close()
        self.trainer.strategy.barrier("scores: written")
        if self.trainer.is_global_zero:
            self._write(videos, skipped)
        flow = mean_flow(videos)
        logged = folder_scores(videos) | ({} if flow is None else {"mean_flow": flow})
        self.log_dict({f"test/{name}": value for name, value in logged.items()})

    # What is written

    @property
    def _proxies(self) -> frozenset[str]:
        """The dimensions that something else than the published network measures."""
        return frozenset(name for name, one in self._facts.items() if one["proxy"])

    def _write(self, videos: Mapping[str, Mapping[str, Any]], skipped: Mapping[str, str]) -> None:
        self.log_of_scores.join(list(self._asked))
        scored = {key: self.videos.videos[key] for key in videos}
        paths = {key: one.path for key, one in scored.items()}
        write_json(self.output / f"{self.name}_eval_results.json", eval_results(videos, paths))
        info = full_info(scored, self.videos.asked, self.measures)
        write_json(self.output / f"{self.name}_full_info.json", info)
        facts = provenance(self.trainer)
        facts["versions"] |= package_versions()
        results = folder_results(videos, self._merged, self.missing, self._proxies)
        with recorded_units() as units:
            about = self._about(videos, skipped, facts, results)
        write_units(
            self.output, ((key, self._prompts[key], *sorted(one["scores"])) for key, one in videos.items()), units
        )
        details = {"benchmark": TITLE, "name": self.name, "skipped": dict(sorted(skipped.items())), **facts}
        write_json(self.output / DETAILS_FILE, details)
        write_json(self.output / RESULTS_FILE, {**results, ABOUT: about})
        # The board's own line about what was left out speaks of questions.
        Console().print(scoreboard(TITLE, results, {**about, "left_out": 0}))

    def _about(
        self,
        videos: Mapping[str, Mapping[str, Any]],
        skipped: Mapping[str, str],
        facts: Mapping[str, Any],
        results: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What the numbers belong to."""
        data, prompts, seed = self.videos, self._prompts, facts["seed"] or 0
        about: dict[str, Any] = {
            "benchmark": TITLE,
            "protocol": PROTOCOL,
            "videos": {
                "folder": str(data.folder),
                "scored": len(videos),
                "prompts": len({prompts[key] for key in videos}),
                "list": None if data.prompts is None else str(data.prompts),
                "prompt_set": data.prompt_set,
            },
            "left_out": len(skipped),
            "not_static": sum("not_static" in one for one in videos.values()),
            "allow_missing": data.allow_missing,
            "limit": data.limit,
            "networks": self._facts,
            "observed": self._observed.facts,
            "merged": self._merged_from,
            "headlines": headline_addresses(results),
            "marks": number_marks(results, self._proxies, self._merged_from, self._observed.facts),
            **{name: facts[name] for name in ("seed", "versions", "git_commit", "git_dirty")},
            "intervals": {
                "level": LEVEL,
                "resamples": RESAMPLES,
                "seed": seed,
                "of": score_intervals(videos, prompts, seed),
            },
        }
        if self.paper is not None:
            paper = self.paper.compared(TITLE, results, Protocol(left_out=len(skipped), limit=data.limit))
            paper["not_comparable"] += [f"{name}: {why}" for name, one in self._facts.items() for why in one["differs"]]
            about["paper"] = paper
        about["remarks"] = [line.removesuffix(".") for line in remarks(results, about)]
        return about
