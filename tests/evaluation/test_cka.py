import math

import numpy as np
import pytest
import torch

from sparsify.evaluation.cka import GramMeans, Moments, aligned, centred_hsic, debiased_hsic, gram, linear_cka


def features(n=40, p=7, q=5, seed=0):
    """Features that have something in common, far from zero."""
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(n, p, generator=generator) + 100
    y = x @ torch.randn(p, q, generator=generator) + 4 * torch.randn(n, q, generator=generator) - 50
    return x, y


def by_definition(x, y):
    """Linear CKA as Kornblith et al. write it, in numpy."""
    x, y = (value.double().numpy() - value.double().numpy().mean(0) for value in (x, y))
    cross = np.linalg.norm(y.T @ x) ** 2
    return cross / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def unbiased_by_definition(x, y):
    """CKA with the U-statistic of HSIC, written out as sums over different examples: Gretton et al."""
    k, l = ((v.double().numpy() @ v.double().numpy().T) for v in (x, y))  # noqa: E741
    n = len(k)
    different = ~np.eye(n, dtype=bool)

    def hsic(a, b):
        a, b = a * different, b * different
        two = (a * b).sum() / (n * (n - 1))
        three = sum(a[i] @ b[i] for i in range(n))  # Σ a_ij b_iq over all j, q
        triples = (a.sum(1) @ b.sum(1) - (a * b).sum()) / (n * (n - 1) * (n - 2))
        assert three == pytest.approx((a * b).sum())
        fours = (a.sum() * b.sum() - 4 * (a.sum(1) @ b.sum(1)) + 2 * (a * b).sum()) / (n * (n - 1) * (n - 2) * (n - 3))
        return two + fours - 2 * triples

    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


@pytest.mark.parametrize(("n", "p", "q"), [(40, 7, 5), (6, 30, 20), (12, 3, 50)])  # features, examples, examples
def test_both_forms_are_the_definition(n, p, q):
    x, y = features(n, p, q)
    # Rounding of float64 on numbers of 1e4 (n features squared) that nearly cancel.
    assert linear_cka(x, y) == pytest.approx(by_definition(x, y), abs=1e-9)
    x, y = x - x.mean(0), y - y.mean(0)  # the definition in numpy loses digits otherwise
    assert linear_cka(x, y, debiased=True) == pytest.approx(unbiased_by_definition(x, y), abs=1e-6)


def test_it_does_not_see_rotation_scale_and_shift():
    x, y = (value.double() for value in features())
    turn, _ = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))
    for debiased in (False, True):
        expected = linear_cka(x, y, debiased=debiased)
        assert linear_cka(-0.3 * x @ turn + 9, 7 * y, debiased=debiased) == pytest.approx(expected, abs=1e-9)
    assert expected < 0.9


def test_it_sees_other_linear_maps():
    x, _ = features()
    stretched = x * torch.tensor([30.0, 1, 1, 1, 1, 1, 1])
    assert linear_cka(x, stretched) < 0.9


@pytest.mark.parametrize("debiased", [False, True])
def test_the_same_features_are_1(debiased):
    for n, p in ((40, 7), (6, 30)):
        x, _ = features(n, p)
        assert linear_cka(x, x, debiased=debiased) == pytest.approx(1, abs=1e-12)


def test_unrelated_features_are_0_only_with_the_debiased_estimator():
    x, y = torch.randn(2, 50, 2000, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert linear_cka(x, y) > 0.9
    assert abs(linear_cka(x, y, debiased=True)) < 0.05


def test_batches_change_nothing():
    x, y = features()
    moments = Moments()
    for part in (slice(0, 1), slice(1, 17), slice(17, 40)):
        moments.add(x[part], y[part])
    assert moments.cka() == pytest.approx(linear_cka(x, y), abs=1e-12)
    assert moments.debiased() == pytest.approx(linear_cka(x, y, debiased=True), abs=1e-12)


def test_the_mean_over_minibatches_comes_near_to_all_at_once():
    x, y = features(n=2000)
    means = GramMeans()
    for part in torch.arange(2000).split(40):
        means.add(gram(x[part]), gram(y[part]))
    assert means.count == 2000
    assert means.debiased() == pytest.approx(linear_cka(x, y, debiased=True), abs=0.01)  # a spread of 1/√2000 or so
    one = GramMeans()
    one.add(gram(x[:40]), gram(y[:40]))
    one.add(gram(x[:3]), gram(y[:3]))  # too few: left out
    assert (one.count, one.debiased()) == (40, pytest.approx(linear_cka(x[:40], y[:40], debiased=True)))


def test_what_does_not_vary_is_like_nothing():
    x, _ = features()
    constant = torch.ones(40, 3)
    assert math.isnan(linear_cka(x, constant))
    assert math.isnan(linear_cka(x, constant, debiased=True))
    moments = Moments()
    assert math.isnan(moments.cka())
    assert math.isnan(moments.debiased())
    moments.add(constant, constant)
    assert moments.constant()


def test_examples_must_be_the_same_and_several():
    x, y = features()
    with pytest.raises(ValueError, match="CKA of 40 and 39 examples"):
        linear_cka(x, y[1:])
    with pytest.raises(ValueError, match="CKA of 3 and 3 examples"):
        linear_cka(x[:3], y[:3], debiased=True)
    with pytest.raises(ValueError, match="CKA of 1 and 1 examples"):
        linear_cka(x[:1], y[:1])


def test_the_two_estimators_agree_for_many_examples():
    x, y = features(n=5000)
    assert aligned(centred_hsic, gram(x), gram(y)) == pytest.approx(aligned(debiased_hsic, gram(x), gram(y)), abs=0.01)
