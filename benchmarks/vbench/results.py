"""VBench's results: dimensions, totals, what is missing and why, and the marks of numbers that are not VBench's."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from benchmarks.base.results import OF_PROXIES
from benchmarks.vbench.rules import DIMENSIONS, aggregate
from benchmarks.vbench.scores import STATIC_VIDEOS, VideoRecord, folder_scores, mean_flow


def totals(raw: Mapping[str, float]) -> dict[str, float]:
    """Quality, semantic and total, each only where nothing that it is made of is missing."""
    scores = aggregate(raw)
    incomplete = {DIMENSIONS[name].group for name in scores["missing"]}
    groups = {group: scores[group] for group in ("quality", "semantic") if group not in incomplete}
    return groups if incomplete else {**groups, "total": scores["total"]}


def folder_results(
    videos: Mapping[str, VideoRecord],
    merged: Mapping[str, float],
    missing: Mapping[str, str],
    proxies: Container[str] = (),
) -> dict[str, Any]:
    """The numbers of a folder, and under "missing" the dimensions that have none, each with the reason.

    Quality, semantic and total are VBench's only where no dimension of theirs is a proxy; those of proxies are under
    "of_proxies", where nobody takes them for the published ones.

    Args:
        videos: name -> {"frames", "scores"}.
        merged: dimension -> raw score from elsewhere, where no video has one.
        missing: dimension -> why it is not measured.
        proxies: dimensions that something else than the published network measured.
    """
    scores = {**merged, **folder_scores(videos)}
    raw = {name: scores[name] for name in DIMENSIONS if name in scores}
    flow = mean_flow(videos)
    reasons = {
        name: missing.get(name, "no video has a prompt for it, or none counts")
        for name in DIMENSIONS
        if name not in raw
    }
    proxy_groups = {DIMENSIONS[name].group for name in raw if name in proxies}
    of_proxies, published = dict[str, float](), dict[str, float]()
    for name, score in totals(raw).items():
        # The total is made of both groups, so that one proxy anywhere makes it one of proxies.
        mixed = name in proxy_groups or (name == "total" and proxy_groups)
        (of_proxies if mixed else published)[name] = score
    numbers = raw | ({} if flow is None else {"mean_flow": flow}) | published
    return {**numbers, **({OF_PROXIES: of_proxies} if of_proxies else {}), "missing": reasons}


def number_marks(
    results: Mapping[str, Any],
    proxies: Container[str],
    merged: Iterable[str],
    observed: Container[str],
) -> dict[str, str]:
    """Address -> mark of every number that is not VBench's own measurement by this program; see `results.marks`."""
    marks = {name: "proxy" for name in DIMENSIONS if name in results and name in proxies}
    marks |= {name: "merged" for name in merged if name in results}
    marks |= {name: "from observations" for name in DIMENSIONS if name in results and name in observed}
    # Both numbers come from the one flow network.
    if "mean_flow" in results and "dynamic_degree" in proxies:
        marks["mean_flow"] = "proxy"
    return marks | {f"{OF_PROXIES}/{name}": "of proxies, not VBench's" for name in results.get(OF_PROXIES, {})}


def headline_addresses(results: Mapping[str, Any]) -> list[str]:
    """All numbers that a reader is shown: dimensions, mean flow, and the totals that there are."""
    names = [*DIMENSIONS, "mean_flow", "quality", "semantic", "total"]
    addresses = [name for name in names if name in results]
    return addresses + [f"{OF_PROXIES}/{name}" for name in results.get(OF_PROXIES, {})]


def remarks(results: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """What a reader must know to compare the numbers: proxies, what is merged, missing and left out."""
    lines = [
        f"{name}: {'a proxy, ' if network['proxy'] else ''}{'; '.join(network['differs'])}."
        for name, network in about["networks"].items()
        if network["differs"]
    ]
    if "mean_flow" in results:
        lines.append(f"mean flow: {results['mean_flow']:.2f} pixels between frames that are about 1/8 second apart.")
    # One line for each file and each reason: dozens of dimensions may share one.
    for path in dict.fromkeys(about.get("merged", {}).values()):
        names = ", ".join(name for name, source in about["merged"].items() if source == path)
        lines.append(f"merged from {path}: {names}.")
    if mixed := results.get(OF_PROXIES):
        lines.append(f"{', '.join(mixed)}: made of proxies too, so that they are not VBench's and compare with none.")
    for reason in dict.fromkeys(results["missing"].values()):
        names = ", ".join(name for name, other in results["missing"].items() if other == reason)
        lines.append(f"missing ({reason}): {names}.")
    if about["not_static"]:
        lines.append(
            f"temporal_flickering: {about['not_static']} videos do not count: they move, or come after the first "
            f"{STATIC_VIDEOS} static ones of their prompt."
        )
    if about["left_out"]:
        lines.append(f"{about['left_out']} videos were left out; details.json names them and says why.")
    return lines
