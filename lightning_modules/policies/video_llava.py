"""Video-LLaVA, as transformers has it, behind the `VideoLLM` protocol."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datamodules.vista.samples import AnswerName, AnswerScores, Box, View, ViewName
from lightning_modules.losses.log_probs import answer_kl, answer_log_probs
from lightning_modules.policies import adapters
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.chat import Chat, check_template
from lightning_modules.policies.frames import FrameFit, distinct_frames, frame_pixels, processor_region
from lightning_modules.policies.lora_targets import AdapterRoom
from lightning_modules.policies.prefixes import PADDING, PackedViews, left_padded, shared_prefix_mask
from lightning_modules.policies.sharding import full_state_dict, is_sharded
from lightning_modules.policies.shared_attention import first_masked
from lightning_modules.policies.video_llava_model import (
    EncodedVideos,
    build_model,
    embed_views,
    freeze_unused_layers,
    greedy_ids,
    read_configuration,
    tokens_per_frame,
    tower_states,
)
from lightning_modules.policies.video_llm import VideoLLM


class VideoLlavaPolicy(nn.Module, VideoLLM):
    """A Video-LLaVA checkpoint that is scored, trained, asked and exported.

    With `lora` or `adapter` an adapter trains; without either the language model and its output head do (full
    fine-tuning). Vision tower and projector are frozen unless said otherwise; the image tower, which no video passes,
    always is. Building reads the configuration only, `load` the weights.

    Args:
        path: a checkpoint folder or hub id of the transformers format.
        lora: a new LoRA adapter; None = none.
        adapter: a PEFT folder to start from, or to evaluate. It trains on, and a frozen copy of it is the reference,
            so that what supervised fine-tuning taught stays in the reference.
        reference_adapter: keep a frozen adapter as the reference also where a new adapter trains; needed where the
            reference must follow the policy.
        train_tower: train the video tower as well, as far as its features are used.
        train_projector: train the projector from the tower to the language model as well.
        prompt_template: the prompt with ``{question}`` once and the video token once.
        num_frames: frames a video; encoding another number is an error.
        frame_fit: how frames meet the tower. processor = as the checkpoint's processor does, which for most Video-LLaVA
            checkpoints cuts the borders away; squash = both sides resized to the tower's, as the code of VistaDPO does;
            pad = borders of the mean colour make the frame square. Give a checkpoint what it was trained with.
        dtype: type of the checkpoint's weights in memory; adapters are float32 always.
        attn_implementation: sdpa, which runs causally over the shared prefix, or transformers' plain eager.
        activation_checkpointing: recompute the blocks' activations in backward instead of keeping them.

    Raises:
        ValueError: `path` holds no Video-LLaVA, or a setting contradicts another.
    """

    entry_points = ("encode", "score", "kl", "logits", "generate")

    def __init__(
        self,
        path: str,
        lora: LoraSettings | None = None,
        adapter: str | None = None,
        reference_adapter: bool = False,
        train_tower: bool = False,
        train_projector: bool = False,
        prompt_template: str = "USER: <video>\n{question} ASSISTANT:",
        num_frames: int = 8,
        frame_fit: FrameFit = "processor",
        dtype: Literal["float32", "bfloat16"] = "float32",
        attn_implementation: Literal["sdpa", "eager"] = "sdpa",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_template(prompt_template)
        self.path = path
        self.lora = lora
        self.adapter = adapter
        self.reference_adapter = reference_adapter
        self.train_tower = train_tower
        self.train_projector = train_projector
        self.prompt_template = prompt_template
        self.num_frames = num_frames
        self.frame_fit: FrameFit = frame_fit
        self.dtype = dtype
        self.attn_implementation = attn_implementation
        self.activation_checkpointing = activation_checkpointing
        self.config = read_configuration(path)
        copies = [name for name, on in self._vision_parts().items() if on]
        self._adapter_config = adapters.adapter_config(lora, adapter, copies)
        self.model: Any = None
        self.processor: Any = None
        self.chat: Chat | None = None

    # Weights

    def load(self, meta: bool = False) -> None:
        """Bring in weights and adapters; idempotent.

        Args:
            meta: build everything on the meta device and read no weights: `sharding.load_sharded` does that later.

        Raises:
            ValueError: the adapter or the tokenizer does not fit the checkpoint.
        """
        if self.model is not None:
            return
        processor = self._read_processor()
        video_token = getattr(processor, "video_token", "<video>")
        limit = self.config.text_config.max_position_embeddings
        chat = (processor.tokenizer, self.prompt_template, video_token, self.config.video_token_index)
        self.chat = Chat(*chat, self.num_frames, tokens_per_frame(self.config), limit)
        model: Any = build_model(
            self.path, self.config, self.dtype, self.attn_implementation, self.activation_checkpointing, meta
        )
        model.requires_grad_(False)
        if self._adapter_config is None:
            model.model.language_model.requires_grad_(True)
            model.get_output_embeddings().requires_grad_(True)
            for name, on in self._vision_parts().items():
                getattr(model.model, name).requires_grad_(on)
        else:
            second = self.reference_adapter or self.adapter is not None
            new = self.lora if self.adapter is None else None
            with torch.device("meta" if meta else "cpu"):
                model = adapters.add_adapters(model, self._adapter_config, second, self._adapter_room(model), new)
            if self.adapter is not None and not meta:
                adapters.load_adapter(model, self.adapter)
        self.model = model
        freeze_unused_layers(self.base.model.video_tower, self.config.vision_feature_layer)
        # from_pretrained returns eval mode, in which activation checkpointing is off without a word.
        self.train()

    def _adapter_room(self, model: Any) -> AdapterRoom:
        """The towers see every video without a gradient, or train as a whole, as a projector that trains does."""
        decoder = model.model.language_model
        closed = ["model.video_tower", "model.image_tower", *(["model.multi_modal_projector"] * self.train_projector)]
        return AdapterRoom.of(model, decoder, decoder.layers, model.get_output_embeddings(), closed)

    def _read_processor(self) -> Any:
        """The checkpoint's processor, which needs no weights; read once."""
        from transformers import AutoProcessor

        if self.processor is None:
            self.processor = AutoProcessor.from_pretrained(self.path, trust_remote_code=False)
        return self.processor

    def _vision_parts(self) -> dict[str, bool]:
        return {"video_tower": self.train_tower, "multi_modal_projector": self.train_projector}

    @property
    def base(self) -> Any:
        """The model as transformers has it, in which adapters sit in place."""
        assert self.model is not None, "load() comes first"
        return self.model if self._adapter_config is None else self.model.get_base_model()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def trains_head(self) -> bool:
        """Whether the output head, or an adapter in it, trains: logits then do not follow from hidden states alone."""
        return any(one.requires_grad for one in self.base.get_output_embeddings().parameters())

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks of language model and towers, each a sharding unit."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        return (module for module in self.model.modules() if isinstance(module, GradientCheckpointingLayer))

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, compute as the reference; without adapters, which switch nothing, as the model is."""
        return adapters.reference_mode(self.model)

    def visible(self, height: int, width: int) -> Box:
        """The part of a source frame that the tower sees; `load` need not have been called.

        Raises:
            ValueError: it does not follow from the processor's settings.
        """
        if self.frame_fit != "processor":
            return Box(0.0, 0.0, float(width), float(height))
        return processor_region(self._read_processor().video_processor, height, width)

    # Scoring

    @torch.no_grad()
    def encode(self, views: Sequence[View], keep_hidden: Collection[tuple[ViewName, AnswerName]] = ()) -> EncodedVideos:
        """Tokenise, and run the tower over every distinct frame once, without a gradient.

        Where the tower trains it runs in `score` instead, on the pixels kept here.

        Args:
            views: the batch's views; frames may differ in size, never in number.
            keep_hidden: (view, answer) pairs whose hidden states `score` returns.

        Raises:
            ValueError: a prompt without its one video token, an answer that tokenises to nothing, another number of
                frames, or a sequence longer than the checkpoint has positions.
        """
        assert self.chat is not None, "load() comes first"
        packed = self.chat.pack(views, self.device)
        names = [(view.name, name) for view in views for name in view.answers]
        chosen = torch.tensor([name in keep_hidden for name in names], dtype=torch.bool, device=self.device)
        kept = chosen[packed.answers].nonzero().squeeze(1)
        frames, places = self._frames([view.frames for view in views])
        return EncodedVideos(packed, frames, places, kept, packed.answers[kept] if keep_hidden else None)

    def score(self, encoded: EncodedVideos) -> AnswerScores:
        """Log-probability of every answer given its view: one forward over all views, answers behind their prefix."""
        packed = encoded.packed
        embeds = self._embed(packed, encoded.frames, encoded.places)
        additive = embeds.dtype if self.attn_implementation == "eager" else None
        first = first_masked(self.base.model.language_model, packed.shared)
        hidden = self.base.model(
            inputs_embeds=embeds,
            attention_mask=shared_prefix_mask(packed.segments, first, additive),
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state[packed.rows, packed.columns]
        count = len(packed.num_tokens)
        log_probs = answer_log_probs(hidden, self._head, packed.targets, packed.answers, count)
        kept = None if encoded.hidden_answer is None else hidden[encoded.kept]
        return AnswerScores(log_probs, packed.num_tokens, kept, encoded.hidden_answer)

    forward = score

    def kl(
        self, reference: AnswerScores, policy: AnswerScores, reference_head: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """(A,) sum over tokens of KL(reference || policy) for the answers whose hidden states were kept, else 0.

        Args:
            reference: scores with hidden states, of the same `encoded` as `policy`.
            policy: scores with hidden states and a gradient.
            reference_head: the reference's output head; None = the policy's own, as it is in reference mode.

        Raises:
            ValueError: hidden states are missing, or the head trains without an adapter and none was given.
        """
        if reference.hidden is None or policy.hidden is None or policy.hidden_answer is None:
            raise ValueError("kl needs hidden states of reference and policy: name the answers in encode's keep_hidden")
        if reference_head is None and self._adapter_config is None and self.trains_head:
            raise ValueError("the output head trains: give kl the head of the frozen copy that made the reference")
        head = reference_head or (self._reference_head if self.trains_head else self._head)
        count = len(policy.log_probs)
        return answer_kl(reference.hidden, policy.hidden, head, self._head, policy.hidden_answer, count)

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, D) hidden states -> (N, V) logits of the output head."""
        return self._head(hidden)

    def text_faults(self, prompt: str, answers: Mapping[str, str]) -> list[str]:
        """Why a prompt cannot be scored with one of its answers: tokens, or more of them than there are positions.

        Every answer is tried by itself, so that one fault does not hide another's.
        """
        assert self.chat is not None, "load() comes first, on the meta device at least"
        faults: list[str] = []
        for name, text in answers.items():
            try:
                self.chat.sequence(prompt, {name: text}, "its texts")
            except ValueError as error:
                faults.append(str(error))
        return list(dict.fromkeys(faults))

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[str], frames: Sequence[Tensor], max_new_tokens: int, answer_start: str = ""
    ) -> list[str]:
        """Greedy answers to one prompt per (T, 3, H, W) uint8 video, all in one left-padded batch.

        Args:
            prompts: without a video token or chat template.
            frames: one video a prompt.
            max_new_tokens: the longest answer.
            answer_start: what every answer begins with, behind the template; it is not part of what comes back.

        Raises:
            ValueError: as `encode`.
        """
        assert self.chat is not None, "load() comes first"
        pairs = zip(prompts, frames, strict=True)
        views = [View(sample, "original", video, text, {}) for sample, (text, video) in enumerate(pairs)]
        packed = self.chat.pack(views, self.device, answer_start)
        embeds = self._embed(packed, *self._frames(frames))
        # Generation appends at the right, so that padding moves to the left.
        embeds, mask = left_padded(embeds, packed.segments != PADDING)
        training = self.training
        self.eval()  # activation checkpointing would switch the cache off
        try:
            ids = greedy_ids(self.base, embeds, mask, max_new_tokens, self.chat.eos_token_id, is_sharded(self))
        finally:
            self.train(training)
        return [self.chat.text(one) for one in ids.tolist()]

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: a PEFT folder, or a model folder with processor that `from_pretrained` reads.

        Under sharding every rank calls it, since weights are gathered; rank 0 writes.

        Args:
            folder: where to; made if need be.
            state_dict: full tensors of all that the export holds, named as in `self.state_dict()`; None = the weights
                as they are now.
        """
        adapted = self._adapter_config is not None
        if state_dict is None and is_sharded(self):
            # An adapter may also hold what is frozen, as the unused layers of a tower that trains.
            state_dict = full_state_dict(self, trained_only=adapted and adapters.trains_whole(self.model))
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        own = None if state_dict is None else {name.removeprefix("model."): one for name, one in state_dict.items()}
        if adapted:
            adapters.save_adapter(self.model, folder, own)
            return
        self.model.save_pretrained(folder, state_dict=own)
        self.processor.save_pretrained(folder)

    # Parts

    def _frames(self, videos: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features, or pixels, of the distinct frames, and (V, T) which of them is where."""
        frames, places = distinct_frames(videos)
        side = self.config.vision_config.image_size
        pixels = frame_pixels(self.processor.video_processor, frames, self.frame_fit, side).to(self.device)
        return pixels if self.train_tower else tower_states(self.base, pixels), places.to(self.device)

    def _embed(self, packed: PackedViews, frames: Tensor, places: Tensor) -> Tensor:
        states = tower_states(self.base, frames) if self.train_tower else frames
        return embed_views(self.base, packed.ids, states, places)

    def _head(self, hidden: Tensor) -> Tensor:
        head = self.base.get_output_embeddings()
        logits: Tensor = head(hidden.to(head.weight.dtype))
        return logits

    def _reference_head(self, hidden: Tensor) -> Tensor:
        with self.reference_mode():
            return self._head(hidden)
