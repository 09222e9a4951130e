"""The surgeon: what a pruned weight did is moved into the weights behind it."""

import pytest
import torch

from sparsify.errors import PassError
from sparsify.reconstruction.least_squares import fitted
from sparsify.reconstruction.moments import Moments
from sparsify.reconstruction.surgeon import surgeon

OUT, INPUTS = 5, 11
EXACT = {"rtol": 1e-3, "atol": 1e-4}  # float32 factors of an inverse


def given(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(300, INPUTS, generator=generator) @ (
        torch.eye(INPUTS) + 0.3 * torch.randn(INPUTS, INPUTS, generator=generator)
    )
    return torch.randn(OUT, INPUTS, generator=generator), x.T @ x / 300, x


def random_mask(seed=0, share=0.5):
    return torch.rand(OUT, INPUTS, generator=torch.Generator().manual_seed(seed + 50)) >= share


def error(w, w0, gram):
    gap = (w - w0).double()
    return float(((gap @ gram.double()) * gap).sum())


@pytest.mark.parametrize("damping", [1e-6, 0.01, 0.5])
def test_a_weight_in_the_first_column_is_removed_as_by_hassibi(damping):
    w, gram, _ = given()
    kept = torch.ones(OUT, INPUTS, dtype=torch.bool)
    kept[1, 0] = False
    inverse = torch.linalg.inv(gram.double() + damping * gram.diagonal().mean() * torch.eye(INPUTS))
    expected = w.double().clone()
    expected[1] -= w[1, 0] / inverse[0, 0] * inverse[:, 0]
    assert float(expected[1, 0]) == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(surgeon(w, kept, gram, damping), expected.float(), **EXACT)


@pytest.mark.parametrize("gone", [1, 4, 7, INPUTS - 1])
def test_where_the_first_columns_go_it_is_the_least_squares_solution(gone):
    w, gram, x = given()
    kept = torch.ones(OUT, INPUTS, dtype=torch.bool)
    kept[:, :gone] = False
    expected = torch.linalg.lstsq(x[:, gone:].double(), (x @ w.T).double()).solution.T.float()
    torch.testing.assert_close(surgeon(w, kept, gram, 1e-7)[:, gone:], expected, **EXACT)


def test_the_last_column_has_nobody_behind_it():
    w, gram, _ = given()
    kept = torch.ones(OUT, INPUTS, dtype=torch.bool)
    kept[:, -1] = False
    assert torch.equal(surgeon(w, kept, gram, 0.01), torch.where(kept, w, 0.0))


@pytest.mark.parametrize("seed", range(6))
def test_the_error_is_between_masking_and_least_squares(seed):
    w, gram, _ = given(seed)
    kept = random_mask(seed)
    moments = Moments(gram[None], gram[None], torch.zeros(1, INPUTS), torch.zeros(1, INPUTS))
    naive, best = torch.where(kept, w, 0.0), fitted(w[None], kept[None], moments, 1e-7)[0]
    moved = surgeon(w, kept, gram, 1e-7)
    assert error(best, w, gram) <= error(moved, w, gram) * 1.0001 < error(naive, w, gram)
    assert not moved[~kept].any()


@pytest.mark.parametrize("block", [1, 2, 3, 7, 11, 128])
def test_blocks_of_any_size_give_the_same(block):
    w, gram, _ = given()
    kept = random_mask()
    torch.testing.assert_close(surgeon(w, kept, gram, 0.01, block), surgeon(w, kept, gram, 0.01, 4), **EXACT)


def test_where_nothing_is_gone_nothing_moves():
    w, gram, _ = given()
    assert torch.equal(surgeon(w, torch.ones_like(w, dtype=torch.bool), gram, 0.01), w)


@pytest.mark.parametrize("damping", [0.0, 1e-7])
def test_inputs_that_are_always_zero_do_not_count(damping):
    w, gram, _ = given()
    wide = torch.zeros(INPUTS + 1, INPUTS + 1)
    place = [*range(4), *range(5, INPUTS + 1)]
    wide[torch.tensor(place)[:, None], torch.tensor(place)] = gram
    kept = random_mask()
    wider = torch.ones(OUT, INPUTS + 1, dtype=torch.bool)
    wider[:, place] = kept
    weight = torch.full((OUT, INPUTS + 1), 9.0)
    weight[:, place] = w
    found = surgeon(weight, wider, wide, damping)
    torch.testing.assert_close(found[:, place], surgeon(w, kept, gram, damping), **EXACT)
    assert bool((found[:, 4] == 9).all())  # what is kept keeps its weight


def test_a_singular_hessian_needs_damping():
    w = torch.randn(OUT, INPUTS, generator=torch.Generator().manual_seed(0))
    row = torch.randn(1, INPUTS, generator=torch.Generator().manual_seed(1))
    gram = row.T @ row
    kept = random_mask()
    with pytest.raises(PassError, match=r"depend on each other.*Raise damping="):
        surgeon(w, kept, gram, 0.0)
    found = surgeon(w, kept, gram, 0.01)
    assert torch.isfinite(found).all()
    assert error(found, w, gram) < error(torch.where(kept, w, 0.0), w, gram)


def test_damping_that_is_too_small_is_raised():
    w = torch.randn(OUT, INPUTS, generator=torch.Generator().manual_seed(0))
    row = torch.randn(1, INPUTS, generator=torch.Generator().manual_seed(1))
    assert torch.isfinite(surgeon(w, random_mask(), row.T @ row, 1e-9)).all()


def test_the_weight_given_is_not_changed():
    w, gram, _ = given()
    before = w.clone()
    surgeon(w, random_mask(), gram, 0.01)
    assert torch.equal(w, before)
