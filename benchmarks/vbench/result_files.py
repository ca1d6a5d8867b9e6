"""The files of a scored folder: VBench's own two, the results with what they belong to, and the details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.base.bootstrap import recorded_units
from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.results import ABOUT, DETAILS_FILE, RESULTS_FILE, provenance, run_about, write_json, write_units
from benchmarks.base.scoreboard import scoreboard
from benchmarks.vbench.published_files import eval_results, full_info
from benchmarks.vbench.results import folder_results, headline_addresses, number_marks, remarks
from benchmarks.vbench.scores import VideoRecord, score_intervals
from benchmarks.vbench.weights import package_versions
from datamodules.questions.folder_names import made_from

if TYPE_CHECKING:
    from benchmarks.vbench.module import VBench

TITLE = "VBench"
PROTOCOL = (
    "VBench 45e79ec1, one process: consistencies weigh every pair of frames alike, detections, captions and appearance "
    "style every frame, all others every video"
)


def write_results(benchmark: VBench, videos: Mapping[str, VideoRecord], skipped: Mapping[str, str]) -> None:
    """Write the files into the benchmark's output, and print the scores; on rank 0.

    Args:
        benchmark: after its test.
        videos: name -> {"frames", "scores"}, of all ranks.
        skipped: name -> why the video was left out.
    """
    folder, output = benchmark.videos, benchmark.output
    scored = {key: folder.videos[key] for key in videos}
    paths = {key: video.path for key, video in scored.items()}
    prompts = {key: video.prompt for key, video in scored.items()}
    write_json(output / f"{benchmark.name}_eval_results.json", eval_results(videos, paths))
    write_json(output / f"{benchmark.name}_full_info.json", full_info(scored, folder.asked, benchmark.measures))
    facts = provenance(benchmark.trainer)
    facts["versions"] |= package_versions()
    # The dimensions that another network than the published one measures.
    proxies = frozenset(name for name, network in benchmark.network_facts.items() if network["proxy"])
    results = folder_results(videos, benchmark.merged, benchmark.missing, proxies)
    with recorded_units() as units:
        about = _about(benchmark, videos, prompts, skipped, facts, results)
    about["marks"] = number_marks(results, proxies, benchmark.merged_from, benchmark.observed.facts)
    about["remarks"] = [line.removesuffix(".") for line in remarks(results, about)]
    identities = ((key, prompts[key], *sorted(video["scores"])) for key, video in videos.items())
    write_units(output, identities, units)
    details = {"benchmark": TITLE, "name": benchmark.name, "skipped": dict(sorted(skipped.items())), **facts}
    write_json(output / DETAILS_FILE, details)
    # Last: a folder with results has everything else.
    write_json(output / RESULTS_FILE, {**results, ABOUT: about})
    # The scoreboard's own line about what was left out speaks of questions; the remarks have one about videos.
    Console().print(scoreboard(TITLE, results, {**about, "left_out": 0}))


def _about(
    benchmark: VBench,
    videos: Mapping[str, VideoRecord],
    prompts: Mapping[str, str],
    skipped: Mapping[str, str],
    facts: Mapping[str, Any],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """What the numbers belong to."""
    folder = benchmark.videos
    about: dict[str, Any] = {
        "benchmark": TITLE,
        "protocol": PROTOCOL,
        "videos": {
            "folder": str(folder.folder),
            "scored": len(videos),
            "prompts": len(set(prompts.values())),
            "list": None if folder.prompts is None else str(folder.prompts),
            "prompt_set": folder.prompt_set,
            "made_from": made_from(folder.folder, videos),
        },
        "left_out": len(skipped),
        "not_static": sum("not_static" in video for video in videos.values()),
        "allow_missing": folder.allow_missing,
        "limit": folder.limit,
        "networks": benchmark.network_facts,
        "observed": benchmark.observed.facts,
        "merged": benchmark.merged_from,
        "headlines": headline_addresses(results),
        **run_about(facts, score_intervals(videos, prompts, facts["seed"] or 0)),
    }
    if benchmark.paper is not None:
        paper = benchmark.paper.compared(TITLE, results, Protocol(left_out=len(skipped), limit=folder.limit))
        # Whatever differs in a network makes its dimension incomparable.
        paper["not_comparable"] += [
            f"{name}: {line}" for name, network in benchmark.network_facts.items() for line in network["differs"]
        ]
        about["paper"] = paper
    return about
