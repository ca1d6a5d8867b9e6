"""`python -m benchmarks.speed dpo`: plain DPO's step against TRL's DPOTrainer, on one text-only Llama and one pair."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.measure import Loss, measure_built
from benchmarks.speed.models import SPECIAL, build_tokenizer, llama_config, train_a_little, words
from benchmarks.speed.options import DpoOptions
from benchmarks.speed.report import report
from lightning_modules.losses.dpo import dpo_loss
from lightning_modules.losses.log_probs import answer_log_probs
from lightning_modules.policies.adapters import reference_mode
from lightning_modules.policies.prefixes import pack_views, shared_prefix_mask
from lightning_modules.policies.shared_attention import use_shared_prefix_attention

OURS, TRL, TRL_CHECKPOINTING = "ours", "TRL DPOTrainer", "TRL, checkpointing"
BETA = 0.1
#: The linears of a Llama's blocks.
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
INSTALL = f"{TRL}: not installed; run pip install -c constraints.txt -e '.[trl]'"


@dataclass
class Pair:
    """Preference pair: a prompt and two answers, as texts whose words are single tokens."""

    prompt: str
    chosen: str
    rejected: str


def dpo(options: DpoOptions) -> dict[str, Any]:
    """Measure and report.

    Returns:
        The content of the report, see `report`.
    """
    rows, product = measure_built(dpo_rows, options)
    baselines = {row.name: TRL for row in rows if len(rows) > 1}
    notes = [f"times: how many times as fast as {TRL}"] if baselines else [INSTALL]
    return report("Plain DPO: one prompt, one pair", rows, product, baselines, options, notes)


def dpo_rows(options: DpoOptions) -> dict[str, Loss]:
    """The rows by name; TRL's only where it is installed."""
    pair = build_pair(options)
    rows: dict[str, Loss] = {}
    if find_spec("trl") is not None:
        rows[TRL] = TrlLoss(options, pair, checkpointing=False)
        rows[TRL_CHECKPOINTING] = TrlLoss(options, pair, checkpointing=True)
    rows[OURS] = OursLoss(options, pair)
    return rows


def build_pair(options: DpoOptions) -> Pair:
    """Random words; the tokenizer adds the beginning of the prompt and the end of the answers."""
    generator = torch.Generator().manual_seed(options.seed)
    prompt = words(options.prefix - 1, options, generator)
    chosen, rejected = (" " + words(options.answer - 1, options, generator) for _ in range(2))
    return Pair(prompt, chosen, rejected)


class OursLoss:
    """Plain DPO's loss by our training step: one prompt, both answers behind it, the head at answers only."""

    def __init__(self, options: DpoOptions, pair: Pair) -> None:
        from peft import get_peft_model

        self.model: Any = get_peft_model(_llama(options), _lora(options))
        use_shared_prefix_attention(self.model.get_base_model().model)
        train_a_little(self.model, options.seed)
        tokenizer = build_tokenizer(options.vocabulary)
        # The same tokens as TRL makes of the texts: the end of sequence belongs to the answer.
        answers = [
            [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            for text in (pair.chosen, pair.rejected)
        ]
        self.packed = pack_views([tokenizer(pair.prompt)["input_ids"]], [answers], SPECIAL.index("<pad>"))

    def __call__(self) -> Tensor:
        """The loss."""
        with torch.no_grad(), reference_mode(self.model):
            reference = self._score()
        rewards = self._score() - reference
        return dpo_loss(rewards[:1], rewards[1:], BETA).mean()

    def clear(self) -> None:
        """Drop the gradients."""
        self.model.zero_grad()

    def _score(self) -> Tensor:
        """(2,) log-probability of the chosen and of the rejected answer."""
        llama, packed = self.model.get_base_model(), self.packed
        hidden = llama.model(
            input_ids=packed.ids,
            attention_mask=shared_prefix_mask(packed.segments, packed.shared),
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state[packed.rows, packed.columns]
        return answer_log_probs(hidden, llama.lm_head, packed.targets, packed.answers, 2)


class TrlLoss:
    """Plain DPO's loss by TRL's trainer: its `compute_loss` on the batch of its own loader, reference by adapters off.

    Defaults that would make the comparison unequal are changed: float32 instead of bfloat16, and no truncation.
    Everything else is as `DPOConfig` has it.

    Args:
        options: sizes.
        pair: the texts.
        checkpointing: recompute activations in backward, which is TRL's default and costs time for memory; ours does
            not, so that the row without it is the one to compare with.
    """

    def __init__(self, options: DpoOptions, pair: Pair, checkpointing: bool) -> None:
        from datasets import Dataset, disable_progress_bars
        from trl import DPOConfig, DPOTrainer

        disable_progress_bars()
        rows = Dataset.from_list([{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}])
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            # TRL uses names that newer versions of transformers have changed.
            warnings.simplefilter("ignore", FutureWarning)
            settings = DPOConfig(
                output_dir=folder,
                beta=BETA,
                per_device_train_batch_size=1,
                max_length=None,
                bf16=False,
                gradient_checkpointing=checkpointing,
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
            )
            self.trainer = DPOTrainer(
                model=_llama(options),
                args=settings,
                train_dataset=rows,
                processing_class=build_tokenizer(options.vocabulary),
                peft_config=_lora(options),
            )
        train_a_little(self.trainer.model, options.seed)
        self.trainer.model.train()  # as `Trainer.train` does
        if checkpointing:  # as `Trainer.train` does, which is not called here
            llama = self.trainer.model.get_base_model()
            enable = getattr(llama, "activation_checkpointing_enable", None) or llama.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        # Tokenized and padded by TRL's own loader, before any clock runs.
        self.batch = next(iter(self.trainer.get_train_dataloader()))

    def __call__(self) -> Tensor:
        """The loss."""
        loss: Tensor = self.trainer.compute_loss(self.trainer.model, self.batch)
        return loss

    def clear(self) -> None:
        """Drop the gradients."""
        self.trainer.model.zero_grad()


def _llama(options: DpoOptions) -> Any:
    """The language model, with the same random weights at every call."""
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return LlamaForCausalLM(llama_config(options))


def _lora(options: DpoOptions) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=options.rank, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM")
