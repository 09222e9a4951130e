import pytest

from sparsify.report import quantities


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (1000, "1.00k"), (999_999, "1.00M"), (25_557_032, "25.56M"), (2.5e9, "2.50G")],
)
def test_counts(value, text):
    assert quantities.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1000, "1000 B"), (1536, "1.50 KiB"), (2**20 - 1, "1.00 MiB"), (2**31, "2.00 GiB")]
)
def test_sizes(value, text):
    assert quantities.size(value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0272, 0.0293, "27.2-29.3 µs"),
        (0.95, 1.05, "950.0 µs-1.05 ms"),
        (12.3, 45.6, "12.30-45.60 ms"),
        (999, 1500, "999.00 ms-1.50 s"),
    ],
)
def test_times(low, high, text):
    assert quantities.time_range(low, high) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0%"),
        (1e-9, "<0.1%"),
        (0.001, "0.1%"),
        (0.9784, "97.8%"),
        (0.9996, ">99.9%"),
        (1 - 1e-12, ">99.9%"),
        (1, "100%"),
    ],
)
def test_shares(value, text):
    assert quantities.share(value) == text


def test_changes():
    assert quantities.change(4, 3) == "-25.0%"
    assert quantities.change(0, 3) == ""
