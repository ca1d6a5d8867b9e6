"""Videos that a folder holds and those that it should hold: names, manifests and lists of prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from datamodules.prompt_file import read_prompts
from datamodules.questions.files import VIDEO_ENDINGS, listed
from datamodules.user_files import user_file

#: File with the prompts of a folder's videos; `VideoFolderWriter` writes one.
MANIFEST = "manifest.json"
#: How many entries the published lists have.
PROMPT_SETS = {"vbench": 946, "videojam_bench": 128, "motion_bench": 419}
PromptSet = Literal["vbench", "videojam_bench", "motion_bench"]

_NAME = re.compile(r"(.+)-(\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """Prompt that videos are expected of.

    Attributes:
        dimensions: what VBench's own list scores its videos on; None = whatever is scored.
        entries: the list's entries about this prompt, as published; some of VBench's prompts have two.
    """

    dimensions: frozenset[str] | None = None
    entries: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class NamedVideo:
    """Video file of a folder.

    Attributes:
        path: the file.
        prompt: what it was made from.
        index: which of the prompt's videos, from 0.
    """

    path: Path
    prompt: str
    index: int


def read_asked(file: Path, prompt_set: PromptSet | None = None) -> dict[str, Asked]:
    """Prompts by their text, in the file's order.

    Args:
        file: text with one prompt a line, or JSON like VBench's `VBench_full_info.json`: a list of {"prompt_en",
            "dimension": [...], ...}.
        prompt_set: which published list it must be, checked by the number of its entries.

    Raises:
        ValueError: no such file, another content, prompts that come twice in a text, or another number of entries.
    """
    if file.suffix == ".json":
        entries = _read_entries(file)
        of_prompt: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            of_prompt.setdefault(entry["prompt_en"], []).append(entry)
        asked = {
            prompt: Asked(frozenset(name for entry in same for name in entry["dimension"]), tuple(same))
            for prompt, same in of_prompt.items()
        }
        size = len(entries)
    else:
        asked = {prompt: Asked() for prompt in read_prompts(file)}
        size = len(asked)
    if prompt_set is not None and size != PROMPT_SETS[prompt_set]:
        raise ValueError(
            f"{file} holds {size} prompts, {prompt_set} has {PROMPT_SETS[prompt_set]}; give the whole list, or set "
            "prompt_set: null for a list of your own"
        )
    return asked


def _read_entries(file: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(user_file(file).read_bytes())
    except FileNotFoundError as error:
        raise ValueError(
            f"{file}: no such file; give VBench_full_info.json, or a text with one prompt a line"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file}: is not JSON ({error})") from error
    fields = {"prompt_en": str, "dimension": list}
    faulty = [
        index
        for index, entry in enumerate(entries if isinstance(entries, list) else [None])
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name), kind) for name, kind in fields.items())
    ]
    if faulty or not entries:
        indexes = ", ".join(map(str, faulty)) or "none at all"
        raise ValueError(
            f'{file}: entries must be {{"prompt_en": text, "dimension": [names]}}; these are not: {indexes}'
        )
    return list(entries)


def named_videos(folder: Path, names_are_prompts: bool = False) -> tuple[list[NamedVideo], dict[str, str]]:
    """The mp4 files of a folder, sorted by name; hidden files are passed over.

    Names are ``{prompt}-{index}.mp4`` unless ``manifest.json`` says otherwise: {"videos": {name: {"prompt", "index"}}},
    or {name: prompt} as VBench's own scripts read it. Videos whose number neither the manifest nor their name gives
    take the free ones of their prompt in order.

    Args:
        folder: of the videos.
        names_are_prompts: a name without a number is a prompt as a whole, as VBench's scripts read it, for what needs
            no prompt; false = it is a fault.

    Returns:
        The videos; and name -> fault of the videos that are no mp4 files or have no such name, and of those that the
        manifest lists and that are not there.

    Raises:
        ValueError: no such folder, no video in it, another content of the manifest, or videos of one prompt and number.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the folder of the videos")
    listed_videos = _read_manifest(folder / MANIFEST)
    # macOS leaves hidden "._NAME.mp4" files on foreign disks.
    paths = sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in VIDEO_ENDINGS)
    if not paths:
        raise ValueError(f"{folder}: holds no .mp4 file")
    named: list[tuple[Path, str, int | None]] = []
    faults = dict.fromkeys(listed_videos, "is listed in manifest.json and not there")
    for path in paths:
        # It is there; what stays is listed in vain.
        faults.pop(path.name, None)
        match = _NAME.fullmatch(path.stem)
        number = int(match[2]) if match else None
        if not path.is_file():
            faults[path.name] = "is not a file"
        elif path.suffix.lower() != ".mp4":
            faults[path.name] = "is no .mp4; convert it"
        elif path.name in listed_videos:
            prompt, index = listed_videos[path.name]
            named.append((path, prompt, number if index is None else index))
        elif match or names_are_prompts:
            named.append((path, match[1] if match else path.stem, number))
        else:
            faults[path.name] = "is not called PROMPT-NUMBER.mp4, and no manifest.json gives its prompt"
    videos = _numbered(named)
    _refuse_doubles(videos)
    return videos, faults


def made_from(folder: Path, names: Iterable[str]) -> dict[str, Any] | None:
    """What the manifest says that videos were made from; None = it does not say so, or not of all of them.

    Args:
        folder: of the videos.
        names: of the videos' files.
    """
    path = folder / MANIFEST
    content = json.loads(path.read_bytes()) if path.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("made_from"), dict):
        return None
    recorded: dict[str, Any] = content["made_from"]
    # A video that was added by hand may be of any model.
    return recorded if set(names) <= set(content.get("videos", ())) else None


def _numbered(named: Sequence[tuple[Path, str, int | None]]) -> list[NamedVideo]:
    """The videos, those without a number under the first free one of their prompt."""
    # Numbers that are given come first, so that a file keeps its own whatever its name sorts as.
    taken = {(prompt, index) for _, prompt, index in named}
    videos = []
    for path, prompt, index in named:
        if index is None:
            index = next(free for free in count() if (prompt, free) not in taken)
            taken.add((prompt, index))
        videos.append(NamedVideo(path, prompt, index))
    return videos


def _read_manifest(path: Path) -> dict[str, tuple[str, int | None]]:
    """File name -> prompt, and index where it is given."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        videos = content["videos"] if isinstance(content.get("videos"), dict) else content
        return {
            name: (entry, None) if isinstance(entry, str) else (str(entry["prompt"]), int(entry["index"]))
            for name, entry in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"videos": {name: {"prompt": text, "index": number}}}, or {name: prompt}'
        raise ValueError(f"{path}: is not of the form {form} ({error!r})") from error


def _refuse_doubles(videos: Sequence[NamedVideo]) -> None:
    first: dict[tuple[str, int], NamedVideo] = {}
    doubles = [
        f"{first[key].path.name} and {video.path.name}"
        for video in videos
        if first.setdefault(key := (video.prompt, video.index), video) is not video
    ]
    if doubles:
        raise ValueError(
            "videos of the same prompt and number; keep one of each, or give their numbers in "
            f"{MANIFEST}:{listed(doubles)}"
        )


def compare(
    videos: Sequence[NamedVideo], asked: Mapping[str, Asked], num_samples: int | None
) -> tuple[dict[str, str], dict[str, str]]:
    """What is missing, and what no prompt asks for.

    Args:
        videos: what there is.
        asked: the prompts that videos are expected of.
        num_samples: videos of each prompt, numbered from 0; None = at least one, of any number.

    Returns:
        Both -> why. What is missing goes by prompt and number: a file of any name may show it, and the name that it
        would have by itself may be that of a file with another prompt.
    """
    present = {(video.prompt, video.index) for video in videos}
    prompts = {prompt for prompt, _ in present}
    if num_samples is None:
        missing = {f"a video of {prompt!r}": "is missing" for prompt in asked if prompt not in prompts}
    else:
        expected = [(prompt, index) for prompt in asked for index in range(num_samples)]
        missing = {f"video {index} of {prompt!r}": "is missing"
                   for prompt, index in expected if (prompt, index) not in present}  # fmt: skip
    # Other prompts first: those are the mistakes, and a message lists ten at most.
    extra = {video.path.name: "has a prompt that is not in the list" for video in videos if video.prompt not in asked}
    for video in videos:
        if video.prompt in asked and num_samples is not None and video.index >= num_samples:
            extra[video.path.name] = f"is beyond the {num_samples} videos of each prompt"
    return missing, extra
