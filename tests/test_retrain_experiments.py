"""What the experiments in examples/ say of their seeds."""

import importlib.util
from pathlib import Path

import pytest

COMMON = Path(__file__).resolve().parents[1] / "examples" / "experiments" / "common.py"


@pytest.fixture(scope="module")
def common():
    spec = importlib.util.spec_from_file_location("common", COMMON)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judged(common, scores, others, known=True):
    claim, lines = common.Claim("It works"), []
    claim.part(known, "what needs no seeds")
    claim.reaches(0.5, scores, f"far enough: {common.said(scores)}")
    claim.beats("at 98%", "one", scores, "the other", others)
    claim.say(lines.append)
    return lines


def test_one_seed_decides_nothing_and_has_no_deviation(common):
    first, *parts = judged(common, [0.9], [0.8])
    assert first.startswith("\nIt works: one seed decides nothing (")
    assert parts == [
        "  held     what needs no seeds", "  open     far enough: 90.0",
        "  open     at 98% one beats the other: 90.0, 80.0",
    ]  # fmt: skip
    assert ": did not hold (" in judged(common, [0.9], [0.8], known=False)[0]


def test_several_seeds_decide(common):
    first, *parts = judged(common, [0.9, 0.91], [0.8, 0.815])
    assert first.startswith("\nIt works: held (")
    assert parts[2] == "  held     at 98% one beats the other: 90.5 ± 0.7, 80.8 ± 1.1"
