"""Shards of annotated videos -> batches of views: the data of VistaDPO, plain DPO and supervised fine-tuning."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.negatives import ClipNegative, ObjectNegative, RelevantSegment, Reverse, RoiMove, VideoNegative
from datamodules.plan import EvalPlan, Plan, TrainPlan
from datamodules.reading import ByteReader
from datamodules.sample_facts import SampleFacts
from datamodules.samples import Needs, VistaBatch
from datamodules.shard_checks import load_index
from datamodules.shard_index import Index
from datamodules.stream import PlanLoader
from datamodules.view_stream import CollateViews, MakeViews, Members, Partners
from datamodules.views import Negatives, ViewMaker

Split = Literal["train", "val", "predict"]
Paths = str | list[str]


class VistaPairs(LightningDataModule):
    """Videos with their negatives, as the model asks for them.

    The model says by `needs()` which views to make and which answers to score; nothing else is decoded. The state in a
    checkpoint is the number of samples consumed, so a resumed run goes on with exactly the next sample.

    Args:
        train: index file of the training shards (``NAME.index.json``, a path or an http(s) or s3 address), or several.
        val: likewise, of the validation shards; every sample is seen once.
        predict: likewise, of the shards whose reference scores are cached; None = the training shards.
        num_frames: frames per view, spread evenly over the video or the clip (released code: 8).
        batch_size: samples per rank and micro-batch.
        num_workers: processes per rank that read and decode; 0 = none.
        seed: decides the order of the samples and every draw of the negatives.
        video_negative: what stands against the whole video; None = Reverse, the paper's best.
        clip_negative: what stands against the event clip; None = RelevantSegment, the paper's best.
        object_negative: what stands against the boxed frame; None = RoiMove, the paper's best.
        resample_each_epoch: draw the negatives anew in every epoch. Cached reference scores cannot be used then.
        window: shards that are shuffled together; more = better mixed, less local reads.
        on_bad_sample: an altered or undecodable sample stops the run, or is skipped (it counts nowhere).
        max_bad_samples: how many samples may be skipped before the run stops after all.
        multiprocessing_context: "fork", "spawn" or "forkserver" for the workers; None = the platform's default.
        reader: how bytes are fetched (attempts, backoff, timeout); None = the defaults.
    """

    def __init__(
        self,
        train: Paths | None = None,
        val: Paths | None = None,
        predict: Paths | None = None,
        num_frames: int = 8,
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        video_negative: VideoNegative | None = None,
        clip_negative: ClipNegative | None = None,
        object_negative: ObjectNegative | None = None,
        resample_each_epoch: bool = False,
        window: int = 16,
        on_bad_sample: Literal["raise", "skip"] = "raise",
        max_bad_samples: int = 10,
        multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = None,
        reader: ByteReader | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("num_frames", num_frames, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"data.{name} is {value}; give {least} or more")
        self.paths: dict[Split, Paths | None] = {"train": train, "val": val, "predict": predict or train}
        self.num_frames = num_frames
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.negatives = Negatives(
            video_negative or Reverse(), clip_negative or RelevantSegment(), object_negative or RoiMove()
        )
        self.resample_each_epoch = resample_each_epoch
        self.window = window
        self.on_bad_sample = on_bad_sample
        self.max_bad_samples = max_bad_samples
        self.multiprocessing_context = multiprocessing_context
        self.reader = reader or ByteReader()
        self._indexes: dict[Split, Index] = {}
        self._loaders: dict[Split, PlanLoader[VistaBatch]] = {}
        self._resumed: dict[str, Any] = {}

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Read the indexes and check all that they tell, before anything is trained.

        Raises:
            ValueError: everything that is wrong with the shards of a split, or a split that this verb needs is absent.
        """
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "predict": ("predict",)}
        for split in splits.get(stage, ()):
            if self.paths[split] is not None:
                self._check(split, self.index(split))
            elif not (stage == TrainerFn.FITTING and split == "val"):
                raise ValueError(f"data.{split} is not given; name the index file of the shards for `{stage}`")
        # What an earlier run left behind; Lightning restores a checkpoint's state after this hook.
        self._loaders, self._resumed = {}, {}

    def train_dataloader(self) -> PlanLoader[VistaBatch]:
        """The endless stream of training samples, from where a checkpoint left it."""
        trainer = self._trainer()
        accumulation = trainer.accumulate_grad_batches
        plan = TrainPlan(**self._plan("train"), seed=self.seed, window=self.window, accumulation=accumulation)
        limit = trainer.limit_train_batches
        batches = limit if isinstance(limit, int) else int(limit * len(plan))
        if batches < len(plan) and batches % accumulation and not trainer.fast_dev_run:
            raise ValueError(
                f"trainer.limit_train_batches stops after {batches} batches, within an optimizer step of "
                f"{accumulation} accumulated batches; give a multiple"
            )
        loader = self._loader("train", plan)
        before = self._loaders.get("train")
        if state := before.progress() if before else self._resumed:
            loader.resume(state)
        self._loaders["train"] = loader
        return loader

    def val_dataloader(self) -> PlanLoader[VistaBatch] | list[Any]:
        """Every validation sample once; nothing where there are no validation shards."""
        return self._evaluation("val") if self.paths["val"] is not None else []

    def predict_dataloader(self) -> PlanLoader[VistaBatch]:
        """Every sample once, with the views that training will see."""
        return self._evaluation("predict")

    def state_dict(self) -> dict[str, Any]:
        """Where the stream of training samples stands; empty before training."""
        loader = self._loaders.get("train")
        if loader is None:
            return dict(self._resumed)
        progress = self._trainer().fit_loop.epoch_loop.batch_progress.current
        # 1 in a checkpoint that an exception wrote, else 0: that batch is given again.
        return loader.progress(in_flight=progress.ready - progress.processed)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there when training starts; other shards, seed or window are an error that says so."""
        self._resumed = dict(state_dict)

    # What others ask

    def index(self, split: Split) -> Index:
        """The index of a split, read once.

        Raises:
            ValueError: the split has no index file, it cannot be read, shards are missing or of another size.
        """
        path = self.paths[split]
        if path is None:
            raise ValueError(f"data.{split} is not given; name the index file of its shards")
        if split not in self._indexes:
            same = next((index for other, index in self._indexes.items() if self.paths[other] == path), None)
            self._indexes[split] = same or load_index(path, "vidpref/vista", self.reader)
        return self._indexes[split]

    def views_fingerprint(self, split: Split = "train") -> dict[str, Any]:
        """All that determines the views of a split, in plain types; equal fingerprints mean equal views.

        Cached reference scores carry it (as `Index.made_from` of their side shards) and are refused under another.
        """
        return {
            "fingerprint": self.index(split).fingerprint,
            "seed": self.seed,
            "num_frames": self.num_frames,
            "negatives": self.negatives.describe(),
            "resample_each_epoch": self.resample_each_epoch,
        }

    @property
    def bad_samples(self) -> dict[str, str]:
        """Key -> why, of all samples skipped so far on this rank."""
        return {key: why for loader in self._loaders.values() for key, why in loader.bad_samples.items()}

    # Parts

    def _trainer(self) -> Any:
        assert self.trainer is not None, "asked by a trainer only"
        return self.trainer

    def _needs(self) -> Needs:
        return self._trainer().lightning_module.needs()  # type: ignore[no-any-return]

    def _facts(self, split: Split) -> list[SampleFacts]:
        return [SampleFacts.from_index(entry.key, entry.facts) for entry in self.index(split).entries]

    def _check(self, split: Split, index: Index) -> None:
        """Raise a ValueError that lists what is wrong with the samples."""
        facts = self._facts(split)
        faults = [f"sample {one.key!r}: {fault}" for one in facts for fault in one.faults()]
        if faults:
            raise ValueError("\n".join([f"{self.paths[split]}: mend these rows and prepare the shards anew:", *faults]))
        wanted = [one for one in (self.negatives.video, self.negatives.clip) if one.needs_partner]
        if wanted and len({one.video_id for one in facts}) < 2:
            raise ValueError(
                f"{self.paths[split]}: {type(wanted[0]).__name__} shows another video, but all samples are of one "
                "(video_id); add videos or choose another negative"
            )

    def _plan(self, split: Split) -> dict[str, Any]:
        share = self._trainer().distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
        return {
            "shard_counts": self.index(split).shard_counts,
            "batch_size": self.batch_size,
            "rank": share["rank"],
            "world": share["num_replicas"],
            "terms": self.negatives.membership(self._facts(split)),
        }

    def _evaluation(self, split: Split) -> PlanLoader[VistaBatch]:
        self._loaders[split] = self._loader(split, EvalPlan(**self._plan(split)))
        return self._loaders[split]

    def _loader(self, split: Split, plan: Plan) -> PlanLoader[VistaBatch]:
        index, needs = self.index(split), self._needs()
        maker = ViewMaker(needs, self.negatives, self.num_frames, self.seed, self.resample_each_epoch)
        return PlanLoader(
            plan=plan,
            index=index,
            make_sample=MakeViews(maker, Partners.of(index)),
            collate=CollateViews(index, needs, self.num_frames),
            members=Members(maker),
            num_workers=self.num_workers,
            multiprocessing_context=self.multiprocessing_context,
            on_bad_sample=self.on_bad_sample,
            max_bad_samples=self.max_bad_samples,
            pin_memory=self._trainer().strategy.root_device.type == "cuda",
            reader=self.reader,
        )
