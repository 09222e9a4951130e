"""Least squares: the best values of what is left, by rows and against a solver that knows the data."""

import pytest
import torch

from sparsify.reconstruction.least_squares import fitted
from sparsify.reconstruction.moments import Moments

ROWS, OUT, INPUTS = 200, 6, 9


def data(seed=0, groups=1):
    """Return inputs now and before, which are correlated, old weights, and the moments."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, INPUTS, INPUTS, generator=generator) * 0.3 + torch.eye(INPUTS)
    z = torch.randn(groups, ROWS, INPUTS, generator=generator) @ mix
    x = z + 0.3 * torch.randn(groups, ROWS, INPUTS, generator=generator)
    w0 = torch.randn(groups, OUT, INPUTS, generator=generator)
    return x, z, w0, Moments(x.mT @ x / ROWS, z.mT @ x / ROWS, x.mean(1), z.mean(1))


def mask(kind, groups=1):
    generator = torch.Generator().manual_seed(5)
    if kind == "shared":
        return torch.tensor([True, False, True, True, False, True, False, True, True]).expand(groups, OUT, INPUTS)
    kept = torch.rand(groups, OUT, INPUTS, generator=generator) > 0.4
    if kind == "one empty row":
        kept[:, 2] = False
    return kept


def by_data(x, z, w0, kept, damping=0.0):
    """Fit row by row on the data itself; damping is rows of their own."""
    delta = damping * x.square().mean()
    found = torch.zeros_like(w0, dtype=torch.float64)
    for row, left in enumerate(kept):
        at = left.nonzero().flatten()
        extra = delta.sqrt() * torch.eye(INPUTS)
        system = torch.cat([x / ROWS**0.5, extra])[:, at].double()
        target = torch.cat([z @ w0[row] / ROWS**0.5, extra[:, at] @ w0[row, at]]).double()
        found[row, at] = torch.linalg.lstsq(system, target, driver="gelsd").solution
    return found.float()


def error(w, w0, moments):
    """E‖w x - w₀ z‖² up to what does not depend on w."""
    w, w0 = w.double(), w0.double()
    gram, cross = moments.gram.double(), moments.cross.double()
    return float(((w @ gram) * w).sum() - 2 * ((w0 @ cross) * w).sum())


@pytest.mark.parametrize("damping", [1e-7, 0.01, 1.0])
@pytest.mark.parametrize("kind", ["shared", "unstructured", "one empty row"])
def test_every_row_is_the_least_squares_solution_on_what_is_left(kind, damping):
    x, z, w0, moments = data()
    kept = mask(kind)
    found = fitted(w0, kept, moments, damping)
    # conjugate gradients stop at a residual of 1e-5
    torch.testing.assert_close(found[0], by_data(x[0], z[0], w0[0], kept[0], damping), rtol=1e-3, atol=1e-3)
    assert found.dtype == torch.float32
    assert not found[~kept].any()


def test_groups_are_fitted_each_on_its_own_inputs():
    x, z, w0, moments = data(groups=3)
    kept = mask("unstructured", 3)
    found = fitted(w0, kept, moments, 1e-7)
    for group in range(3):
        expected = by_data(x[group], z[group], w0[group], kept[group])
        torch.testing.assert_close(found[group], expected, rtol=1e-3, atol=1e-3)


def test_both_solvers_agree():
    _, _, w0, moments = data(1)
    shared = mask("shared").clone()
    direct = fitted(w0, shared, moments, 0.01)
    mixed = shared.clone()
    mixed[0, 0] = ~mixed[0, 0]  # now rows differ, and the other solver is taken
    torch.testing.assert_close(fitted(w0, mixed, moments, 0.01)[:, 1:], direct[:, 1:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["shared", "unstructured"])
def test_damping_pulls_to_the_old_weights(kind):
    _, _, w0, moments = data()
    kept = mask(kind)
    naive = torch.where(kept, w0, 0.0)
    far = [float((fitted(w0, kept, moments, damping) - naive).norm()) for damping in (1e-4, 0.1, 10.0, 1e4)]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-3 * far[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["shared", "unstructured"])
@pytest.mark.parametrize("damping", [1e-6, 0.01, 1.0])
def test_fitting_is_never_worse_than_not_fitting(seed, kind, damping):
    _, _, w0, moments = data(seed)
    kept = mask(kind)
    naive = error(torch.where(kept, w0, 0.0), w0, moments)
    assert error(fitted(w0, kept, moments, damping), w0, moments) <= naive


def test_where_nothing_is_gone_and_nothing_moved_the_weights_stay():
    _, _, w0, moments = data()
    same = Moments(moments.gram, moments.gram, moments.mean, moments.mean)
    torch.testing.assert_close(fitted(w0, torch.ones_like(w0, dtype=torch.bool), same, 0.01), w0, rtol=1e-4, atol=1e-4)


def test_where_nothing_is_left_everything_is_zero():
    _, _, w0, moments = data()
    assert not fitted(w0, torch.zeros_like(w0, dtype=torch.bool), moments, 0.01).any()


@pytest.mark.parametrize("kind", ["shared", "unstructured"])
def test_an_input_that_is_always_zero_keeps_its_weights(kind):
    x, z, w0, _ = data()
    x[..., 3], z[..., 3] = 0, 0
    moments = Moments(x.mT @ x / ROWS, z.mT @ x / ROWS, x.mean(1), z.mean(1))
    kept = mask(kind)
    found = fitted(w0, kept, moments, 0.01)
    torch.testing.assert_close(found[..., 3], torch.where(kept, w0, 0.0)[..., 3], rtol=1e-4, atol=1e-5)


def test_copies_of_an_input_share_what_is_lost():
    x, _, w0, _ = data()
    x[..., 1] = x[..., 0]
    moments = Moments(x.mT @ x / ROWS, x.mT @ x / ROWS, x.mean(1), x.mean(1))
    kept = torch.ones_like(w0, dtype=torch.bool)
    kept[..., 1] = False
    found = fitted(w0, kept, moments, 1e-6)
    torch.testing.assert_close(found[..., 0], w0[..., 0] + w0[..., 1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[..., 2:], w0[..., 2:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["shared", "unstructured"])
def test_a_gram_that_rounding_made_indefinite_gives_no_worse_weights(seed, kind):
    _, _, w0, moments = data(seed)
    values, vectors = torch.linalg.eigh(moments.gram[0])
    values[:4] = -values[-1]
    bad = Moments((vectors * values @ vectors.T)[None], moments.cross, moments.mean, moments.before)
    kept = mask(kind)
    found = fitted(w0, kept, bad, 0.01)
    assert bool(torch.isfinite(found).all())
    system, target = bad.gram[0].double(), (w0[0] @ bad.cross[0]).double()
    delta = 0.01 * bad.gram[0].diagonal().mean().clamp_min(1e-12).double()
    for row, start, left in zip(found[0].double(), w0[0].double(), kept[0], strict=True):
        worth = [
            float(w @ system @ w - 2 * target_row @ w + delta * (w - start).square().sum())
            for w, target_row in ((row, target[0]), (torch.where(left, start, 0.0), target[0]))
        ]
        assert worth[0] <= worth[1] + 1e-6 * abs(worth[1])
        target = target[1:]
