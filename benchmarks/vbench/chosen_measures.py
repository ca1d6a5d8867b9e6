"""The dimensions that can be measured with the given networks, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.vbench.flow_measures import Dynamics, StaticFlickering
from benchmarks.vbench.measures import Flickering, Measure, NetworkMeasure, Smoothness
from benchmarks.vbench.motion import Interpolation
from benchmarks.vbench.networks import FrameNetwork
from benchmarks.vbench.rules import DIMENSIONS
from benchmarks.vbench.styles import STYLE, ClipStyle, StyleMeasure
from datamodules.video.optical_flow import OpticalFlow


class Available(NamedTuple):
    """Measures that can run here.

    Attributes:
        measures: dimension -> its measure.
        missing: dimension -> why it is not measured, for all others.
        absent: those of `missing` whose network is given and cannot run here.
    """

    measures: dict[str, Measure]
    missing: dict[str, str]
    absent: dict[str, str]


def measures_of(
    subject: FrameNetwork | None,
    background: FrameNetwork | None,
    aesthetic: FrameNetwork | None,
    imaging: FrameNetwork | None,
    interpolation: Interpolation | None,
    flow: OpticalFlow | None,
    flickering: bool,
    static_filter: bool,
    appearance: ClipStyle | None,
) -> dict[str, Measure | None]:
    """Dimension -> its measure by the given network, None without one; the arguments are those of `VBench`.

    Raises:
        ValueError: the static filter without flow or flickering.
    """
    if static_filter and not (flow and flickering):
        raise ValueError("static_filter says which videos count for flickering, by flow: give both")
    flicker = StaticFlickering(flow) if static_filter and flow else Flickering()
    return {
        "subject_consistency": NetworkMeasure(subject, consistent=True) if subject else None,
        "background_consistency": NetworkMeasure(background, consistent=True) if background else None,
        "temporal_flickering": flicker if flickering else None,
        "motion_smoothness": Smoothness(interpolation) if interpolation else None,
        "dynamic_degree": Dynamics(flow) if flow else None,
        "aesthetic_quality": NetworkMeasure(aesthetic, scale=0.1) if aesthetic else None,
        "imaging_quality": NetworkMeasure(imaging) if imaging else None,
        STYLE: StyleMeasure(appearance) if appearance else None,
    }


def available(by_dimension: Mapping[str, Measure | None]) -> Available:
    """Split the dimensions by whether they can be measured here; `by_dimension` is from `measures_of`."""
    measures = {name: measure for name, measure in by_dimension.items() if measure is not None}
    # A network whose package is missing costs its own dimension; the others are measured all the same.
    absent = {name: reason for name, measure in measures.items() if (reason := measure.absent()) is not None}
    measures = {name: measure for name, measure in measures.items() if name not in absent}
    missing = {
        name: absent.get(name) or ("network not given" if name in by_dimension else "not measured here")
        for name in DIMENSIONS
        if name not in measures
    }
    return Available(measures, missing, absent)
