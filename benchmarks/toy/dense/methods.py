"""Methods of the study of DenseDPO: what each trains on, how that is made, and how much of everything there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BASE = "base"
#: Length of a video.
SECONDS = 4


@dataclass(frozen=True, slots=True)
class Method:
    """Method of the study, one line of its table.

    Attributes:
        title: its name in the table.
        pairs: name of the pairs it trains on.
        labels: name of the labels, of `LABELS` or "matched"; "" = none, supervised fine-tuning on the real videos.
        share: the fraction of the labelled pairs that it trains on.
        flip: the share of labels that is turned round; 0.5 are random signs.
        full: the whole transformer is trained, not a LoRA.
        rate_of: the method whose learning rate it takes; "" = it is tuned itself.
        same_as: the core table's run that it is; "" = it has a fit of its own.
    """

    title: str
    pairs: str = "structural"
    labels: str = "segments"
    share: float = 1.0
    flip: float = 0.0
    full: bool = False
    rate_of: str = ""
    same_as: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """How pairs are labelled: of the whole video, or of segments of some seconds."""

    granularity: str
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """How pairs are made.

    Attributes:
        eta: as `GuidedSampler` has it on a command line; "" = that of configs/toy/wan_pairs.yaml, the paper's.
        seconds: length of a video.
        share: of the study's number of videos.
    """

    eta: str = ""
    seconds: int = SECONDS
    share: float = 1.0


LABELS: Mapping[str, Labels] = {
    "whole": Labels("whole"),
    "segments": Labels("segments"),
    "half": Labels("segments", 0.5),
    "two": Labels("segments", 2.0),
}
#: The labels of whole videos without the pairs that make chosen videos stiller than rejected ones.
MATCHED = "matched"

#: The core table. A pair has four seconds, so that a quarter of the pairs has as many labels as whole videos have.
METHODS: Mapping[str, Method] = {
    "sft": Method("SFT", labels=""),
    "vanilla": Method("vanilla DPO", "vanilla", "whole"),
    "structural": Method("structural DPO", "structural", "whole"),
    "dense": Method("DenseDPO, as many labels", share=0.25),
    "dense-all": Method("DenseDPO, as many pairs"),
}
CONTROLS: Mapping[str, Method] = {
    "vanilla-random": Method("vanilla DPO, random signs", "vanilla", "whole", flip=0.5, rate_of="vanilla"),
    "vanilla-matched": Method("vanilla DPO, chosen and rejected move equally", "vanilla", MATCHED, rate_of="vanilla"),
    "dense-random": Method("DenseDPO, as many labels, random signs", share=0.25, flip=0.5, rate_of="dense"),
}
#: eta 1 starts from noise alone: two samples of one prompt have nothing in common.
PAIRS: Mapping[str, Pairs] = {"vanilla": Pairs("1.0"), "structural": Pairs()}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the study.

    Attributes:
        pairs: labelled pairs of each kind.
        samples: videos for each of the 30 prompts, of every fit and seed.
        steps: optimizer steps of a fit, of 16 pairs each.
        prompts: how many test videos are drawn to find the prompts; 200 have all.
    """

    pairs: int = 1920
    samples: int = 4
    steps: int = 100
    prompts: int = 200

    def __post_init__(self) -> None:
        for name in ("pairs", "samples", "steps", "prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
