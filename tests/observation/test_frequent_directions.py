import pytest
import torch

from sparsify.observation.frequent_directions import frequent_directions


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_sketch_keeps_the_bound_of_frequent_directions(size):
    rows = torch.randn(50, 9, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    sketch = frequent_directions(rows, size)
    assert sketch.shape == (size, 9)
    error = torch.linalg.eigvalsh(rows.T @ rows - sketch.T @ sketch)
    assert float(error.min()) > -1e-9  # never more energy than there is
    assert float(error.max()) <= float(rows.square().sum()) / (size + 1)


def test_a_sketch_of_few_rows_of_low_rank_is_exact():
    rows = torch.randn(40, 2, dtype=torch.float64) @ torch.randn(2, 12, dtype=torch.float64)
    sketch = frequent_directions(rows, 3)
    torch.testing.assert_close(sketch.T @ sketch, rows.T @ rows)


def test_as_many_rows_as_columns_are_exact():
    rows = torch.randn(40, 5, dtype=torch.float64)
    sketch = frequent_directions(rows, 5)
    torch.testing.assert_close(sketch.T @ sketch, rows.T @ rows)
