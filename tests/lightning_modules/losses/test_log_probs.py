"""Log-probabilities and divergences of answers: published values, chunked against plain, hostile logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.losses.log_probs import answer_kl, answer_log_probs, response_log_probs, sequential_kl
from tests.support.goldens import golden

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def close(actual: Tensor, expected: Any, tolerance: float) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=tolerance, rtol=tolerance)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def problem() -> dict[str, Tensor]:
    """Eleven answer positions of four answers in mixed order; answer 2 has none."""
    generator = torch.Generator().manual_seed(0)
    draw = {"dtype": torch.float64, "generator": generator}
    return {
        "hidden": torch.randn(11, 6, **draw),
        "reference": torch.randn(11, 6, **draw),
        "head": torch.randn(13, 6, **draw),
        "targets": torch.randint(0, 13, (11,), generator=generator),
        "answers": torch.tensor([3, 0, 0, 1, 3, 1, 0, 3, 3, 0, 1]),
    }


def as_sequences(rows_ND: Tensor, problem: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The positions of each answer as one padded sequence a row, and its labels: the plain form's arguments."""
    counts = torch.bincount(problem["answers"], minlength=4)
    sequences = rows_ND.new_full((4, int(counts.max()) + 1, rows_ND.shape[1]), 7.0)
    labels = torch.full(sequences.shape[:2], -100)
    for answer in range(4):
        mine = (problem["answers"] == answer).nonzero().flatten()
        sequences[answer, : len(mine)] = rows_ND[mine]
        labels[answer, 1 : len(mine) + 1] = problem["targets"][mine]
    return sequences, labels


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_response_log_probs_are_the_published_sums(dtype: torch.dtype) -> None:
    batch = golden("vista_batch_logps")
    labels = torch.tensor(batch["inputs"]["labels"])
    for name in ("policy", "ref"):
        logits = torch.tensor(batch["inputs"][f"{name}_logits"], dtype=dtype)
        sums = response_log_probs(logits, labels)
        assert sums.dtype == dtype
        close(sums, batch["outputs"][f"{name}_sum"], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sequential_kl_is_the_published_one_in_both_directions(dtype: torch.dtype) -> None:
    inputs, outputs = golden("vista_batch_logps")["inputs"], golden("vista_tdpo")["outputs"]
    labels = torch.tensor(inputs["labels"])
    policy, reference = (torch.tensor(inputs[name], dtype=dtype) for name in ("policy_logits", "ref_logits"))
    close(sequential_kl(reference, policy, labels), outputs["seq_kl_ref_policy"], TOLERANCE[dtype])
    close(sequential_kl(policy, reference, labels), outputs["seq_kl_policy_ref"], TOLERANCE[dtype])
    margin = response_log_probs(policy, labels) - response_log_probs(reference, labels)
    close(margin, outputs["margin"], TOLERANCE[dtype])


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 10, 11, 1000])
def test_chunked_log_probs_equal_the_plain_form_in_value_and_gradient(
    problem: dict[str, Tensor], chunk_size: int
) -> None:
    hidden, head = (problem[name].clone().requires_grad_() for name in ("hidden", "head"))
    weights = torch.tensor([1.0, -2.0, 5.0, 0.5], dtype=torch.float64)

    chunked = answer_log_probs(hidden, lambda h: h @ head.T, problem["targets"], problem["answers"], 4, chunk_size)
    gradients = torch.autograd.grad((weights * chunked).sum(), [hidden, head])
    sequences, labels = as_sequences(hidden, problem)
    plain = response_log_probs(sequences @ head.T, labels)

    close(chunked, plain.detach(), 1e-12)
    for gradient, expected in zip(gradients, torch.autograd.grad((weights * plain).sum(), [hidden, head]), strict=True):
        close(gradient, expected, 1e-12)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 10, 11, 1000])
def test_chunked_kl_equals_the_plain_form_in_value_and_gradient(problem: dict[str, Tensor], chunk_size: int) -> None:
    hidden, head = (problem[name].clone().requires_grad_() for name in ("hidden", "head"))
    reference_logits, labels = as_sequences(problem["reference"] @ problem["head"].T, problem)
    weights = torch.tensor([1.0, -2.0, 5.0, 0.5], dtype=torch.float64)

    chunked = answer_kl(
        problem["reference"],
        hidden,
        lambda h: h @ problem["head"].T,
        lambda h: h @ head.T,
        problem["answers"],
        4,
        chunk_size,
    )
    gradients = torch.autograd.grad((weights * chunked).sum(), [hidden, head])
    plain = sequential_kl(reference_logits, as_sequences(hidden, problem)[0] @ head.T, labels)

    assert (chunked >= 0).all()
    close(chunked, plain.detach(), 1e-12)
    for gradient, expected in zip(gradients, torch.autograd.grad((weights * plain).sum(), [hidden, head]), strict=True):
        close(gradient, expected, 1e-12)


def test_gradients_agree_with_finite_differences(problem: dict[str, Tensor]) -> None:
    hidden, head = (problem[name].clone().requires_grad_() for name in ("hidden", "head"))

    def log_probs(hidden_ND: Tensor, head_VD: Tensor) -> Tensor:
        return answer_log_probs(hidden_ND, lambda h: h @ head_VD.T, problem["targets"], problem["answers"], 4, 3)

    def kl(hidden_ND: Tensor, head_VD: Tensor) -> Tensor:
        def reference_head(h: Tensor) -> Tensor:
            return h @ problem["head"].T

        heads = reference_head, lambda h: h @ head_VD.T
        return answer_kl(problem["reference"], hidden_ND, *heads, problem["answers"], 4, 3)

    assert torch.autograd.gradcheck(log_probs, (hidden, head))
    assert torch.autograd.gradcheck(kl, (hidden, head))


def test_no_gradient_enters_the_reference_through_a_shared_head(problem: dict[str, Tensor]) -> None:
    reference, hidden = (problem[name].clone().requires_grad_() for name in ("reference", "hidden"))
    head = nn.Linear(6, 13, bias=False, dtype=torch.float64)
    answer_kl(reference, hidden, head, head, problem["answers"], 4, 3).sum().backward()
    assert reference.grad is None
    assert hidden.grad is not None
    shared = head.weight.grad.clone()
    head.weight.grad = None

    fixed = head.weight.detach().clone()
    answer_kl(problem["reference"], hidden, lambda h: h @ fixed.T, head, problem["answers"], 4).sum().backward()
    close(shared, head.weight.grad, 1e-12)


def test_logits_of_all_positions_never_exist_at_once(problem: dict[str, Tensor]) -> None:
    hidden, head = (problem[name].clone().requires_grad_() for name in ("hidden", "head"))
    rows: list[int] = []

    def watched(hidden_nD: Tensor) -> Tensor:
        rows.append(len(hidden_nD))
        return hidden_nD @ head.T

    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = answer_log_probs(hidden, watched, problem["targets"], problem["answers"], 4, 4)
        kl = answer_kl(problem["reference"], hidden, watched, watched, problem["answers"], 4, 4)
    assert rows == [4, 4, 3, 4, 4, 4, 4, 3, 3]
    assert all(tensor.shape[-1:] != (13,) for tensor in kept)
    (scores.sum() + kl.sum()).backward()
    assert max(rows) == 4
    assert len(rows) == 18


@pytest.mark.parametrize("chunk_size", [1, 256])
def test_no_positions_give_zeros_with_a_graph(chunk_size: int) -> None:
    hidden = torch.randn(0, 6, requires_grad=True)
    head = nn.Linear(6, 13)
    none = torch.zeros(0, dtype=torch.int64)
    scores = answer_log_probs(hidden, head, none, none, 3, chunk_size)
    kl = answer_kl(torch.randn(0, 6), hidden, head, head, none, 3, chunk_size)
    for values in (scores, kl):
        assert values.tolist() == [0, 0, 0]
        head.weight.grad = hidden.grad = None
        values.sum().backward()
        assert hidden.grad is not None
        assert not head.weight.grad.any()

    logits = torch.randn(2, 5, 7, requires_grad=True)
    labels = torch.full((2, 5), -100)
    for values in (response_log_probs(logits, labels), sequential_kl(logits.detach(), logits, labels)):
        assert values.tolist() == [0, 0]
        assert values.requires_grad


def test_the_first_label_is_never_predicted_and_other_positions_never_matter() -> None:
    logits = torch.randn(1, 4, 5, dtype=torch.float64)
    labels = torch.tensor([[2, -100, 3, 1]])
    sums = response_log_probs(logits, labels)
    expected = logits[0, 1].log_softmax(-1)[3] + logits[0, 2].log_softmax(-1)[1]
    close(sums, [expected], 1e-12)

    hostile = logits.clone()
    hostile[0, [0, 3]] = math.nan
    hostile.requires_grad_()
    close(response_log_probs(hostile, labels).detach(), sums, 0)
    sequential_kl(hostile.detach(), hostile, labels).sum().backward()
    assert hostile.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_float_type_computes_in_float32_at_least(dtype: torch.dtype) -> None:
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    logits = torch.randn(2, 40, 3000).mul(3).to(dtype)
    labels = torch.randint(0, 3000, (2, 40))
    hidden, answers = logits[:, :-1].flatten(0, 1).clone().requires_grad_(), torch.arange(2).repeat_interleave(39)

    plain = response_log_probs(logits, labels)
    chunked = answer_log_probs(hidden, nn.Identity(), labels[:, 1:].flatten(), answers, 2, 7)
    assert plain.dtype == chunked.dtype == expected
    oracle = response_log_probs(logits.double(), labels)
    close(plain.double(), oracle, 1e-5)
    close(chunked.detach().double(), oracle, 1e-5)
    chunked.sum().backward()
    assert hidden.grad.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_identical_models_diverge_by_exactly_zero(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 20, 3000).mul(5).to(dtype)
    labels = torch.randint(0, 3000, (2, 20))
    kl = sequential_kl(logits, logits, labels)
    assert kl.tolist() == [0, 0]
    assert kl.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("low", [-math.inf, -1e4])
def test_probabilities_that_underflow_in_the_reference_add_nothing(dtype: torch.dtype, low: float) -> None:
    reference = torch.tensor([[[0.0, 1.0, low], [0.0, 0.0, 0.0]]], dtype=dtype)
    labels = torch.tensor([[-100, 1]])
    for policy_low in (0.5, low):
        policy = torch.tensor([[[0.5, 0.0, policy_low], [0.0, 0.0, 0.0]]], dtype=dtype, requires_grad=True)
        kl = sequential_kl(reference, policy, labels)
        p = torch.tensor([0.0, 1.0], dtype=torch.float64).softmax(-1)
        q = policy.detach().double()[0, 0].softmax(-1)[:2]
        close(kl.detach().double(), [(p * (p / q).log()).sum()], 1e-6)
        kl.sum().backward()
        assert policy.grad.isfinite().all()


def test_differing_types_of_policy_and_reference_meet_in_the_wider_one() -> None:
    hidden = torch.randn(4, 5).to(torch.bfloat16)
    head: Callable[[Tensor], Tensor] = nn.Identity()
    answers = torch.zeros(4, dtype=torch.int64)
    assert answer_kl(hidden, hidden.float(), head, head, answers, 1).tolist() == [0]


def test_autocast_leaves_sums_in_float32(problem: dict[str, Tensor]) -> None:
    head = nn.Linear(6, 13)
    hidden = problem["hidden"].float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = answer_log_probs(hidden, head, problem["targets"], problem["answers"], 4, 3)
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert hidden.grad.isfinite().all()
