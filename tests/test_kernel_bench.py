"""Sparse layers beside dense ones: every kind of format, of the sparsity that it says."""

import torch

from sparsify.kernel_bench import KINDS, encoded, measure_kernels


def test_every_kind_is_measured_for_every_shape_and_batch():
    told = []
    rows = list(measure_kernels(torch.device("cpu"), torch.float32, [(48, 40), (7, 9)], [1, 3], told.append))
    assert [(row.outputs, row.inputs, row.kind, row.batch) for row in rows] == [
        (*shape, kind, batch) for shape in ((48, 40), (7, 9)) for kind in KINDS for batch in (1, 3)
    ]
    assert told[0] == "2:4, 48x40, batch 1"
    assert all(row.dense > 0 and row.sparse > 0 and row.way == "" for row in rows)
    assert rows[0].as_dict()["speed"] == rows[0].dense / rows[0].sparse


def test_weights_have_the_sparsity_that_the_kind_says():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1024, 1024, generator=generator)
    for kind, share in zip(KINDS, (0.5, 0.1, 0.2, 0.3, 0.1, 0.05), strict=True):
        found = encoded(kind, weight, generator).decode()
        assert abs(float((found != 0).float().mean()) - share) < 0.08, kind
        assert torch.equal(found[found != 0], weight[found != 0])
