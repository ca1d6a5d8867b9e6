"""Shards of annotated videos -> batches of views: the data of VistaDPO, plain DPO and supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.shards.index import Index
from datamodules.stream.indexed_data import Paths, Split
from datamodules.stream.planned_data import Selection, TextFaults, require_least
from datamodules.stream.predict_data import ContinuedData
from datamodules.vista.annotations import Annotations
from datamodules.vista.batches import VistaBatch
from datamodules.vista.facts import SampleFacts
from datamodules.vista.frame_samplers import FrameSampler, UniformFrames, ViewFrames
from datamodules.vista.object_negatives import ObjectNegative, RoiMove
from datamodules.vista.recipe import VistaRecipe
from datamodules.vista.span_negatives import ClipNegative, RelevantSegment, Reverse, VideoNegative
from datamodules.vista.text_check import listed, unusable_samples
from datamodules.vista.views import Negatives, ViewMaker, membership


class VistaPairs(ContinuedData[VistaBatch]):
    """Videos with their negatives, as the model asks for them.

    The model says by `needs()` which views to make and which answers to score; nothing else is decoded. The state in a
    checkpoint is the number of samples consumed, so a resumed run goes on with exactly the next sample.

    Args:
        train: index file of the training shards (``NAME.index.json``, a path or an http(s) or s3 address), or several.
        val: likewise, of the validation shards; every sample is seen once.
        predict: likewise, of the shards whose reference scores are cached; None = the training shards.
        num_frames: frames per view (released code: 8).
        num_clip_frames: frames of the views of the clip; None = `num_frames`. Some policies take one number only.
        num_object_frames: how often the boxed frame is repeated; None = `num_frames`.
        frames: which frames of the whole video are shown; None = UniformFrames, spread evenly.
        clip_frames: which of the clip; None = UniformFrames.
        reference_frames: show the reference so many frames of the event's clip in the place of the whole video, which
            the policy sees; None = it sees the same. The video term must then have the weight 0. A sample without an
            event is shown to both as a whole.
        video_negative: the negative of the whole video; None = Reverse, the paper's best.
        clip_negative: the negative of the event clip; None = RelevantSegment, the paper's best.
        object_negative: the negative of the boxed frame; None = RoiMove, the paper's best.
        resample_each_epoch: draw the negatives again in every epoch. Cached reference scores cannot be used then.
        options: those of `PlannedData`.
    """

    schema: ClassVar[str] = "vidpref/vista"
    required_module_method: ClassVar[tuple[str, str]] = ("needs", "VistaDPO and Supervised")

    def __init__(
        self,
        train: Paths | None = None,
        val: Paths | None = None,
        predict: Paths | None = None,
        num_frames: int = 8,
        num_clip_frames: int | None = None,
        num_object_frames: int | None = None,
        frames: FrameSampler | None = None,
        clip_frames: FrameSampler | None = None,
        reference_frames: int | None = None,
        video_negative: VideoNegative | None = None,
        clip_negative: ClipNegative | None = None,
        object_negative: ObjectNegative | None = None,
        resample_each_epoch: bool = False,
        **options: Any,
    ) -> None:
        counts = {"num_clip_frames": num_clip_frames, "num_object_frames": num_object_frames}
        counts |= {"num_frames": num_frames, "reference_frames": reference_frames}
        require_least(**{name: (count, 1) for name, count in counts.items() if count is not None})
        super().__init__({"train": train, "val": val, "predict": predict or train}, **options)
        self.num_frames = num_frames
        self.num_clip_frames = num_clip_frames
        self.num_object_frames = num_object_frames
        self.frames = frames or UniformFrames()
        self.clip_frames = clip_frames or UniformFrames()
        self.reference_frames = reference_frames
        self.negatives = Negatives(
            video_negative or Reverse(), clip_negative or RelevantSegment(), object_negative or RoiMove()
        )
        self.resample_each_epoch = resample_each_epoch
        #: By index, which several splits may share.
        self._annotations: dict[Index, Annotations] = {}
        #: By split, key -> why, of the samples that the policy cannot take; the loaders skip them.
        self.unusable: dict[Split, dict[str, str]] = {"train": {}, "val": {}, "predict": {}}
        #: The module for which the texts of a split were checked.
        self._texts_checked: dict[Split, Any] = {}

    @property
    def view_frames(self) -> ViewFrames:
        """How many frames each view shows, and which."""
        return ViewFrames(
            self.num_frames, self.num_clip_frames, self.num_object_frames, self.frames, self.clip_frames,
            self.reference_frames,
        )  # fmt: skip

    def views_fingerprint(self, split: Split = "train") -> dict[str, Any]:
        """All that determines the views of a split, in plain types; equal fingerprints mean equal views.

        Cached reference scores carry it (as `Index.made_from` of their side shards) and are refused under another.
        """
        policy: Any = self.active_trainer.lightning_module.policy
        # Of a policy that says so: how its processor lays frames out, as the pixel budget. Others are as in 0.1.0.
        facts = policy.processor_facts() if hasattr(policy, "processor_facts") else {}
        return {
            "fingerprint": self.index(split).fingerprint,
            "seed": self.seed,
            "num_frames": self.num_frames,
            "negatives": self.negatives.describe(self.annotations(split).visible),
            "resample_each_epoch": self.resample_each_epoch,
            **({"processor": facts} if facts else {}),
            **self.view_frames.describe(),
            **({"pooled_tokens": pooled} if (pooled := getattr(policy, "pooled_tokens", None)) else {}),
        }

    def setup(self, stage: str) -> None:
        """As `PlannedData.setup`; another policy may see other parts of the frames."""
        self._annotations = {}
        super().setup(stage)

    def check(self, split: Split, index: Index) -> None:
        """Raise a ValueError that lists what is wrong with the samples."""
        samples = self.annotations(split).facts
        faults = [f"sample {facts.key!r}: {fault}" for facts in samples for fault in facts.faults()]
        if faults:
            raise ValueError("\n".join([f"{self.paths[split]}: fix these rows and prepare the shards again:", *faults]))
        others = [negative for negative in (self.negatives.video, self.negatives.clip) if negative.needs_partner]
        if others and self.annotations(split).partners.none:
            raise ValueError(
                f"{self.paths[split]}: {type(others[0]).__name__} shows another video, but all samples are of one "
                "(the same video_id or the same file); add videos or choose another negative"
            )
        module: Any = self.active_trainer.lightning_module
        if self.reference_frames is not None and not getattr(module, "has_reference", True):
            raise ValueError(
                f"data.reference_frames is {self.reference_frames}, but {type(module).__name__} compares with no "
                "reference; leave it out"
            )
        remarks = [self.annotations(split).visible.remark(samples) if "object" in module.needs() else None]
        remarks += [self.frames.remark(samples), self._even_remark(module.policy), self._reference_remark(samples)]
        for remark in filter(None, remarks):
            rank_zero_warn(f"{self.paths[split]}: {remark}")

    def _even_remark(self, policy: Any) -> str | None:
        """Where a policy takes frames for evenly spaced that are not."""
        if (self.frames.even and self.clip_frames.even) or not getattr(policy, "reads_mean_step", False):
            return None
        return (
            "frames are not evenly spaced in time, and the policy's positions know the mean step between frames only; "
            "Qwen3-VL, which reads each time, fits such frames better"
        )

    def _reference_remark(self, samples: Sequence[SampleFacts]) -> str | None:
        """How many samples have no clip for the reference."""
        without = [facts.key for facts in samples if facts.event_span() is None]
        if self.reference_frames is None or not without:
            return None
        return (
            f"{len(without)} of {len(samples)} samples have no event: their reference sees the whole video, as the "
            f"policy does (the first is {without[0]!r})"
        )

    def text_faults(self, split: Split, faults_of: TextFaults) -> list[str]:
        """Samples that are altered or whose texts the policy cannot take: ten at most, and their number.

        Samples that may be skipped are no fault: they are warned of, and the loader skips them where they come.
        """
        module: Any = self.active_trainer.lightning_module
        if self._texts_checked.get(split) is module:
            return []
        names = sorted({name for answers in module.needs().values() for name in answers})
        most = self.view_frames.most(module.needs())
        unusable = unusable_samples(self.index(split), self.reader, names, most, faults_of)
        count, total, lines = len(unusable), len(self.index(split)), list(unusable.values())
        title = f"{self.paths[split]}: {count} of {total} samples cannot be used"
        if count and self.on_bad_sample == "raise":
            return [listed(f"{title}; fix or remove them, or set data.on_bad_sample: skip:", lines)]
        if count > self.max_bad_samples:
            return [listed(f"{title}, data.max_bad_samples allows {self.max_bad_samples}:", lines)]
        self.unusable[split].update(unusable)
        if count:
            rank_zero_warn(listed(f"{title}, and are skipped:", lines))
        self._texts_checked[split] = module
        return []

    def selection(self, split: Split) -> Selection:
        """All samples, each in the terms whose views it has in what the policy sees of its frames.

        Of `predict`, those whose scores are not there yet.
        """
        keep = self.remaining() if split == "predict" else None
        annotations = self.annotations(split)
        return Selection(membership(annotations.levels, annotations.facts), keep)

    def recipe(self, split: Split) -> VistaRecipe:
        """The views that the model needs; it says so when the loader is made, for callbacks may have added terms."""
        annotations = self.annotations(split)
        maker = ViewMaker(
            self.active_trainer.lightning_module.needs(), self.negatives, self.view_frames, self.seed,
            self.resample_each_epoch, annotations.visible,
        )  # fmt: skip
        _ = annotations.levels, annotations.partners
        if self.num_workers:  # which would inherit the facts of all samples, and need those of a few
            annotations.facts.forget()
        resizer = getattr(self.active_trainer.lightning_module.policy, "frame_resizer", None)
        return VistaRecipe(annotations, maker, self.unusable[split], None if resizer is None else resizer())

    def annotations(self, split: Split) -> Annotations:
        """What the index of a split says of its samples, and what the policy sees of their frames."""
        index = self.index(split)
        if index not in self._annotations:
            # Read from the policy's configuration, before its weights are loaded.
            policy = self.active_trainer.lightning_module.policy
            self._annotations[index] = Annotations.of(index, self.negatives, policy)
        return self._annotations[index]
