"""Measure of VBench's appearance style: CLIP of every frame with the name of the style that the prompt asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.vbench.measures import Measure
from benchmarks.vbench.networks import ClipFeatures
from benchmarks.vbench.semantic_rules import text_similarity
from datamodules.questions.folder_names import Asked
from datamodules.questions.video_folder import Watcher
from datamodules.video.facts import VideoFacts

STYLE = "appearance_style"


class ClipStyle(ClipFeatures):
    """CLIP ViT-B/32, image and text: frames and the name of a style, for appearance style.

    Args:
        model: a folder or a hub id, with both towers and the tokenizer.
    """

    def load(self) -> None:
        """Read the weights of both towers."""
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        super().load()
        self.text = CLIPTextModelWithProjection.from_pretrained(
            self.model, trust_remote_code=False, dtype=torch.float32
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
        self._features: dict[str, Tensor] = {}  # a folder has thousands of videos and a few styles

    @torch.no_grad()
    def style(self, name: str) -> Tensor:
        """(D,) features of a style's name, float32 on the CPU; each name is embedded once."""
        if name not in self._features:
            tokens = self.tokenizer([name], return_tensors="pt").to(self.text.device)
            self._features[name] = self.text(**tokens).text_embeds[0].float().cpu()
        return self._features[name]


@dataclass(frozen=True, slots=True)
class StyleMeasure(Measure):
    """Measure of appearance style: the mean cosine of a video's frames with its style's name; every frame counts once.

    Args:
        network: gives features of frames and of names.
        styles: prompt -> the style that its videos must show.
    """

    network: ClipStyle
    styles: Mapping[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Those of the network."""
        return self.network.facts()

    def load(self) -> None:
        """Those of the network."""
        self.network.load()

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """A watcher that keeps a row for each frame."""
        return _StyleWatcher(self.network, self.styles[prompt])


class _StyleWatcher:
    def __init__(self, network: ClipStyle, style: str) -> None:
        self.network, self.style = network, style
        self.rows: list[Tensor] = []

    def see(self, frames: Tensor, first: int) -> None:
        self.rows.append(self.network(frames).float().cpu())  # not kept on the device: a video may be long

    def result(self) -> dict[str, Any]:
        cosines = text_similarity(torch.cat(self.rows), self.network.style(self.style))
        return {"score": sum(cosines) / len(cosines), "frame_count": len(cosines)}


def styles_in(asked: Mapping[str, Asked] | None) -> dict[str, str]:
    """Prompt -> the style that VBench's list names for it; empty where there is no such list.

    Raises:
        ValueError: an entry about appearance style that does not say which.
    """
    styles = {}
    for prompt, prompt_entries in (asked or {}).items():
        for entry in prompt_entries.entries:
            if STYLE in entry["dimension"]:
                try:
                    styles[prompt] = str(entry["auxiliary_info"][STYLE][STYLE])
                except (KeyError, TypeError) as error:
                    raise ValueError(
                        f"the list's entry of {prompt!r} has no auxiliary_info that names its {STYLE} ({error!r}); "
                        "give VBench_full_info.json as published"
                    ) from error
    return styles
