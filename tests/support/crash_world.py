"""Small inputs and commands for runs that are killed at every point: what is run, on what, and what must come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from datamodules.schemas import write_shards
from datamodules.video.codec import encode_mp4
from tests.support.command_runs import write_uneven_shards
from tests.support.judged_pairs import write_judged_pairs
from tests.support.paths import ROOT
from tests.support.predict_fakes import MemoryVideos
from tests.support.tiny_video_llava import save_tiny_video_llava
from tests.support.tiny_wan import random_video, write_tiny_wan

ON_CPU = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false"]
VISTA = [
    f"--config={ROOT}/configs/vista_dpo/video_llava_lora.yaml",
    *ON_CPU,
    "--trainer.precision=32-true",
    "--trainer.logger=false",
    "--trainer.default_root_dir=out",
    "--model.policy.path=tiny",
    "--model.policy.dtype=float32",
    "--model.policy.lora={r: 4, alpha: 8}",
    "--model.policy.num_frames=4",
    "--data.train=train.index.json",
    "--data.num_frames=4",
    "--data.num_workers=0",
]


@dataclass(frozen=True)
class Command:
    """A command under test: what it needs in its folder, its arguments, and the files to compare in ``out``."""

    prepare: Callable[[Path], object]
    arguments: list[str]
    #: Not compared byte for byte: what says when a run was.
    skips: tuple[str, ...] = ()
    #: How it refuses to write once more what is finished; "" = it has nothing to do then, and succeeds.
    refusal: str = ""


def _vista_inputs(folder: Path) -> None:
    save_tiny_video_llava(folder / "tiny")
    write_uneven_shards(folder / "train", 4)


def _video_inputs(folder: Path) -> None:
    write_tiny_wan(folder / "tiny")
    source = MemoryVideos({f"video-{number}": random_video(5, 16, 16, seed=number) for number in range(2)})
    write_shards(
        (
            (key, {"mp4": encode_mp4(frames, 8.0), "json": json.dumps(source.row(key).to_json()).encode()})
            for key, frames in source.videos.items()
        ),
        folder / "videos",
        "vidpref/videos",
    )


def _clips(folder: Path) -> None:
    (folder / "clips").mkdir()
    for number in range(2):
        frames = random_video(20, 32, 48, seed=number)
        (folder / f"clips/clip{number}.mp4").write_bytes(encode_mp4(frames, 10.0))
        (folder / f"clips/clip{number}.txt").write_text("A clip.")
    row = {"question": "What rolls?", "chosen": "A red ball.", "rejected": "A blue ball."}
    rows = ({"video": f"clips/clip{number}.mp4", **row} for number in range(2))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


COMMANDS = {
    "fit": Command(
        _vista_inputs,
        [
            "fit",
            *VISTA,
            "--trainer.accumulate_grad_batches=1",
            "--data.batch_size=2",
            "--trainer.max_steps=2",
            "--trainer.callbacks+=Recovery",
            "--trainer.callbacks.every_n_steps=1",
        ],
        # Its counters differ in ways that no later step depends on; `exports` and the step are what is compared.
        skips=("checkpoints", "fit"),
    ),
    "predict cache": Command(
        _vista_inputs,
        [
            "predict",
            *VISTA,
            f"--config={ROOT}/configs/reference/write_cache.yaml",
            "--data.predict=train.index.json",
            "--trainer.callbacks.output=out/cache",
        ],
        skips=("predict",),
    ),
    "predict pairs": Command(
        _video_inputs,
        [
            "predict",
            f"--config={ROOT}/configs/dense_dpo/guided_pairs.yaml",
            *ON_CPU,
            "--model.policy.path=tiny",
            "--model.policy.dtype=float32",
            "--model.policy.prompt_length=32",
            "--model.num_steps=4",
            "--data.predict=videos.index.json",
            "--data.num_workers=0",
            "--trainer.callbacks.output=out/pairs",
            "--trainer.default_root_dir=out",
        ],
        skips=("predict",),
    ),
    "predict labels": Command(
        lambda folder: write_judged_pairs(folder, 2),
        [
            "predict",
            f"--config={ROOT}/configs/dense_dpo/segment_labels.yaml",
            *ON_CPU,
            "--model.judge=tests.support.judged_pairs.BrightnessJudge",
            "--data.predict=pairs.index.json",
            "--data.num_workers=0",
            "--model.replies=out/replies.jsonl",
            "--trainer.callbacks.output=out/labels",
            "--trainer.default_root_dir=out",
        ],
        skips=("predict", "replies.jsonl"),
    ),
    "prepare jsonl": Command(_clips, ["prepare", "jsonl", "rows.jsonl", "out/train"], refusal="are there already"),
    "prepare videos": Command(
        _clips,
        [
            *("prepare", "videos", "clips", "out/train"),
            *("--height=32", "--width=48", "--num_frames=9", "--fps=8", "--filters=[]"),
        ],
        refusal="are there already",
    ),
}
torch.set_num_threads(1)
