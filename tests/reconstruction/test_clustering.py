"""Clustering: by hand, and as scipy does it."""

import pytest
import torch

from sparsify.reconstruction.clustering import clusters


def direction(*degrees):
    angles = torch.deg2rad(torch.tensor([float(angle) for angle in degrees]))
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_the_nearest_directions_are_joined_first():
    vectors = direction(0, 90, 2, 95, 180)
    assert clusters(vectors, 5).tolist() == [0, 1, 2, 3, 4]
    assert clusters(vectors, 4).tolist() == [0, 1, 0, 2, 3]
    assert clusters(vectors, 3).tolist() == [0, 1, 0, 1, 2]
    assert clusters(vectors, 2).tolist() == [0, 1, 0, 1, 1]
    assert clusters(vectors, 1).tolist() == [0, 0, 0, 0, 0]


def test_lengths_do_not_matter():
    vectors = direction(0, 90, 2, 95, 180)
    lengths = torch.tensor([1.0, 1e-6, 1e6, 3.0, 0.1])
    assert torch.equal(clusters(vectors * lengths[:, None], 3), clusters(vectors, 3))


def test_opposite_directions_are_not_similar():
    assert clusters(direction(0, 180, 80), 2).tolist() == [0, 1, 0]


def test_vectors_of_zeros_are_similar_to_nothing():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.1], [0.0, 0.0]])
    assert clusters(vectors, 3).tolist() == [0, 1, 0, 2]
    assert len(set(clusters(vectors, 2).tolist())) == 2


def test_ties_leave_as_many_clusters_as_asked():
    for count in range(1, 9):
        assert len(set(clusters(torch.ones(8, 3), count).tolist())) == count
        assert len(set(clusters(torch.eye(8), count).tolist())) == count


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [2, 9, 40])
def test_every_cut_is_that_of_average_linkage(seed, size):
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    vectors = torch.randn(size, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tree = hierarchy.linkage(vectors.numpy(), "average", metric="cosine")
    for count in range(1, size + 1):
        label = hierarchy.cut_tree(tree, n_clusters=count)[:, 0].tolist()
        numbers = {found: number for number, found in enumerate(dict.fromkeys(label))}
        assert clusters(vectors, count).tolist() == [numbers[found] for found in label]
