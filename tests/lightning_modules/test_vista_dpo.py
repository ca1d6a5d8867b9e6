"""VistaDPO and Supervised on a policy whose log-probabilities are parameters, so that every number is known."""

import math
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerName, AnswerScores, View, ViewName
from lightning_modules import vista_dpo
from lightning_modules.losses import dpo, vista
from lightning_modules.losses.log_probs import answer_kl
from lightning_modules.supervised import Supervised
from lightning_modules.vista_dpo import VistaDPO, VistaWeights

EIGHT: list[tuple[ViewName, AnswerName]] = [
    ("original", "chosen"),
    ("original", "rejected"),
    ("original", "irrelevant"),
    ("video_negative", "chosen"),
    ("clip", "chosen"),
    ("clip_negative", "chosen"),
    ("object", "chosen"),
    ("object_negative", "chosen"),
]


class TablePolicy(nn.Module):
    """A log-probability and two hidden states for each answer of a batch."""

    entry_points = ()

    def __init__(self, num_answers: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.log_probs = nn.Parameter(-10 * torch.rand(num_answers, generator=generator).to(dtype))
        self.hidden = nn.Parameter(torch.randn(2 * num_answers, 4, generator=generator).to(dtype))
        self.head = nn.Linear(4, 11, bias=False, dtype=dtype)

    def encode(self, views: Sequence[View], keep_hidden: Collection[tuple[ViewName, AnswerName]] = ()) -> list[bool]:
        return [(view.name, name) in keep_hidden for view in views for name in view.answers]

    def forward(self, encoded: list[bool]) -> AnswerScores:
        rows = torch.tensor([row for row, kept in enumerate(encoded) for _ in range(2) if kept], dtype=torch.long)
        frame_of_row = torch.tensor(
            [2 * row + i for row, kept in enumerate(encoded) for i in range(2) if kept], dtype=torch.long
        )
        count = torch.full((len(encoded),), 2)
        return AnswerScores(self.log_probs[: len(encoded)].float(), count, self.hidden[frame_of_row], rows)

    def kl(self, reference: AnswerScores, policy: AnswerScores, reference_head: nn.Module | None = None) -> Tensor:
        assert reference.hidden is not None
        assert policy.hidden is not None
        assert policy.hidden_answer is not None
        head = reference_head or self.head
        count = len(policy.log_probs)
        return answer_kl(reference.hidden, policy.hidden, head, self.head, policy.hidden_answer, count)

    def reference_mode(self) -> nullcontext[None]:
        return nullcontext()


def batch_of(samples: Sequence[Collection[tuple[ViewName, AnswerName]]], module: VistaDPO | Supervised) -> VistaBatch:
    """A batch whose samples have the named (view, answer) pairs, as far as the module needs them."""
    needs, views = module.needs(), []
    for number, pairs in enumerate(samples):
        for view, answers in needs.items():
            texts = {answer: f"{view} {answer}" for answer in answers if (view, answer) in pairs}
            if texts:
                views.append(View(number, view, torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "q", texts))
    members = {
        "response": samples,
        "video": samples,
        "token": samples,
        "supervised": samples,
        "clip": [sample for sample in samples if ("clip", "chosen") in sample],
        "object": [sample for sample in samples if ("object", "chosen") in sample],
    }
    return VistaBatch(
        keys=[f"sample{number}" for number in range(len(samples))],
        views=views,
        mask=torch.ones(len(samples), dtype=torch.bool),
        denominators={name: float(len(rows) or 1) for name, rows in members.items()},
    )


def referenced(batch: VistaBatch, module: VistaDPO, shift: float = 0.0) -> VistaBatch:
    """The batch with the policy's own scores as the reference's, shifted answer by answer."""
    with torch.no_grad():
        batch.reference = module.scores(batch)
    batch.reference.log_probs = batch.reference.log_probs + shift * torch.arange(len(batch.reference.log_probs))
    return batch


def total(module: VistaDPO, batch: VistaBatch) -> Tensor:
    terms = module.terms(batch)
    means = module.weighted(terms, batch)
    return torch.stack([module.weights[name] * mean for name, mean in means.items()]).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_policy_equal_to_reference_gives_2_7_ln_2(dtype: torch.dtype) -> None:
    module = VistaDPO(TablePolicy(8, dtype))
    batch = referenced(batch_of([EIGHT], module), module)
    assert total(module, batch).item() == pytest.approx(2.7 * math.log(2), abs=1e-6)


def test_every_one_of_the_eight_log_probs_has_a_gradient_of_the_right_sign() -> None:
    policy = TablePolicy(8)
    module = VistaDPO(policy)
    total(module, referenced(batch_of([EIGHT], module), module, shift=0.3)).backward()
    assert policy.log_probs.grad is not None
    for (view, answer), gradient in zip(EIGHT, policy.log_probs.grad.tolist(), strict=True):
        wins = answer == "chosen" and not view.endswith("negative")
        assert gradient < 0 if wins else gradient > 0, (view, answer)


def test_plain_dpo_is_the_response_term_with_one_rejected_answer() -> None:
    policy = TablePolicy(2)
    weights = VistaWeights(video=0, clip=0, object=0, token=0)
    module = VistaDPO(policy, weights=weights, rejected_weight=1.0, irrelevant_weight=0.0)
    assert module.needs() == {"original": ("chosen", "rejected")}
    batch = referenced(batch_of([EIGHT], module), module, shift=2.0)
    margin = 0.1 * 2.0  # rewards are 0 and -2
    assert total(module, batch).item() == pytest.approx(-math.log(1 / (1 + math.exp(-margin))), abs=1e-6)


def test_without_an_irrelevant_answer_the_rejected_one_counts_fully() -> None:
    module = VistaDPO(TablePolicy(2), weights=VistaWeights(video=0, clip=0, object=0, token=0))
    pairs = [pair for pair in EIGHT if pair[1] != "irrelevant"]
    term = module.terms(referenced(batch_of([pairs], module), module, shift=2.0))["response"]
    assert term.values.item() == pytest.approx(math.log(1 + math.exp(-0.2)), abs=1e-6)
    assert term.rejected_rewards is not None
    assert term.rejected_rewards.item() == pytest.approx(-0.2, abs=1e-6)


def test_samples_without_clip_or_box_are_outside_those_terms_and_their_means() -> None:
    module = VistaDPO(TablePolicy(16))
    bare = [pair for pair in EIGHT if not pair[0].startswith(("clip", "object"))]
    batch = referenced(batch_of([bare, EIGHT], module), module)
    terms = module.terms(batch)
    assert terms["response"].samples == [0, 1]
    assert terms["clip"].samples == [1] == terms["object"].samples
    assert total(module, batch).item() == pytest.approx(2.7 * math.log(2), abs=1e-6)


def test_a_batch_in_which_no_sample_takes_part_is_zero_and_has_a_graph() -> None:
    policy = TablePolicy(8)
    module = VistaDPO(policy)
    batch = referenced(batch_of([EIGHT], module), module)
    batch = replace(batch, mask=torch.zeros_like(batch.mask))
    loss = total(module, batch)
    loss.backward()
    assert loss.item() == 0.0
    assert policy.log_probs.grad is not None
    assert not policy.log_probs.grad.any()


@pytest.mark.parametrize(
    ("weights", "views"),
    [
        (VistaWeights(clip=0), {"original", "video_negative", "object", "object_negative"}),
        (VistaWeights(object=0, video=0), {"original", "clip", "clip_negative"}),
        (VistaWeights(response=0, token=0, video=0, clip=0), {"object", "object_negative"}),
    ],
)
def test_a_term_of_weight_zero_asks_for_no_view(weights: VistaWeights, views: set[str]) -> None:
    assert set(VistaDPO(TablePolicy(8), weights=weights).needs()) == views


def test_a_scheduled_term_keeps_its_views_although_its_weight_is_zero_now() -> None:
    module = VistaDPO(TablePolicy(8), weights=VistaWeights(clip=0))
    module.scheduled.add("clip")
    assert "clip_negative" in module.needs()


def test_only_the_token_term_asks_for_hidden_states() -> None:
    assert VistaDPO(TablePolicy(8)).kept_hidden() == (("original", "chosen"), ("original", "rejected"))
    assert VistaDPO(TablePolicy(8), weights=VistaWeights(token=0)).kept_hidden() == ()


@pytest.mark.parametrize(
    ("home", "name", "terms"),
    [
        (vista, "response_loss", {"response"}),
        (dpo, "dpo_loss", {"video", "clip", "object"}),
        (vista, "token_loss", {"token"}),
    ],
)
def test_a_step_trains_on_the_functions_that_hold_the_published_values(
    monkeypatch: pytest.MonkeyPatch, home: ModuleType, name: str, terms: set[str]
) -> None:
    """Whatever a function of the golden tests gives is what the step weighs; nothing repeats its formula."""
    module = VistaDPO(TablePolicy(8))
    batch = referenced(batch_of([EIGHT], module), module, shift=0.3)
    before, original = module.terms(batch), getattr(home, name)
    assert getattr(vista_dpo, name) is original
    monkeypatch.setattr(vista_dpo, name, lambda *args, **settings: 3.0 * original(*args, **settings))
    for term, after in module.terms(batch).items():
        torch.testing.assert_close(after.values, (3.0 if term in terms else 1.0) * before[term].values)


def test_without_a_reference_the_error_names_the_callback() -> None:
    module = VistaDPO(TablePolicy(8))
    with pytest.raises(ValueError, match=r"callbacks\.ReferenceModel"):
        module.terms(batch_of([EIGHT], module))


@pytest.mark.parametrize("bad", [{"beta": 0.0}, {"weights": VistaWeights(video=-1)}, {"warmup": 1.0}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"beta|weights|warmup"):
        VistaDPO(TablePolicy(8), **bad)  # type: ignore[arg-type]


def test_supervised_is_the_mean_token_negative_log_likelihood_per_sample() -> None:
    policy = TablePolicy(2)
    module = Supervised(policy)
    batch = batch_of([EIGHT, EIGHT], module)
    term = module.terms(batch)["supervised"]
    assert torch.allclose(term.values, -policy.log_probs / 2)
    assert term.chosen_rewards is None
