import sys
from types import SimpleNamespace

import pytest

from sparsify.errors import UsageError
from sparsify.evaluation import energy
from sparsify.evaluation.energy import GRID, arithmetic_joules, measure_energy

NOWHERE = {"milliseconds": 2.0, "seconds": 0.0}


def test_time_and_power(tmp_path):
    found = measure_energy(lambda: None, watts=30, grid=100, batch=4, powercap=tmp_path, **NOWHERE)
    assert found.joules == pytest.approx(1000 * 30 * 2e-3 / 4)
    assert found.co2_grams == pytest.approx(found.joules / 3.6e6 * 100)
    assert (found.method, found.basis) == ("watts", "measured time x 30 W; 100 g/kWh")


def test_what_is_assumed_is_said(tmp_path):
    found = measure_energy(lambda: None, powercap=tmp_path, **NOWHERE)
    assert found.joules == pytest.approx(65 * 2)
    assert "65 W (assumed: a common desktop processor's" in found.basis
    assert "475 g/kWh (the world's mean in 2018, IEA)" in found.basis
    assert found.co2_grams == pytest.approx(130 / 3.6e6 * GRID)
    assert found.as_dict()["method"] == "watts"


def counters(folder, **values):
    for name, value in values.items():
        place = folder / f"intel-rapl:{name.removeprefix('p').replace('_', ':')}"
        place.mkdir()
        (place / "energy_uj").write_text(str(value))
        (place / "max_energy_range_uj").write_text("1000")
    return folder


@pytest.mark.parametrize("meter", ["auto", "rapl"])
def test_the_counters_of_processors_are_read(tmp_path, meter):
    """Two processors, and a part of one that is counted in its processor; one counter starts again at 1000."""
    folder = counters(tmp_path, p0=900, p1=100, p0_0=7)

    def run():
        (folder / "intel-rapl:0" / "energy_uj").write_text("50")
        (folder / "intel-rapl:1" / "energy_uj").write_text("350")

    found = measure_energy(run, meter=meter, batch=2, powercap=folder, **NOWHERE)
    assert found.method == "rapl"
    assert found.joules == pytest.approx((150 + 250) * 1e-6 / 2 * 1000)
    assert "(RAPL) during 1 runs" in found.basis


def test_given_watts_come_before_the_counters(tmp_path):
    folder = counters(tmp_path, p0=1)
    assert measure_energy(lambda: None, watts=5, powercap=folder, **NOWHERE).method == "watts"


def test_counters_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="--meter rapl: there are no energy counters"):
        measure_energy(lambda: None, meter="rapl", powercap=tmp_path, **NOWHERE)


def test_arithmetic_is_that_of_horowitz():
    assert arithmetic_joules(10**9) == pytest.approx(1000 * 1e9 * (3.7 + 0.9) * 1e-12)


class Tracker:
    """Codecarbon's, in so far as it is used; says what it was made with."""

    made: dict
    used = 0.002  # kWh

    def __init__(self, **options):
        Tracker.made = options
        if options["country_iso_code"] == "XXX":
            raise ValueError("no such country\nmore")
        self.final_emissions_data = SimpleNamespace(
            energy_consumed=self.used,
            cpu_energy=0.0015,
            ram_energy=0.0005,
            codecarbon_version="9",
            country_name="France",
        )

    def start(self):
        """Nothing."""

    def stop(self):
        return 0.0004  # kg


@pytest.fixture
def codecarbon(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(OfflineEmissionsTracker=Tracker))


def test_codecarbon_s_numbers_are_taken_and_called_so(codecarbon):
    found = measure_energy(lambda: None, meter="codecarbon", batch=5, grid=200, **NOWHERE)
    assert found.joules == pytest.approx(0.002 * 3.6e6 / 5 * 1000)
    assert found.co2_grams == pytest.approx(0.4 / 5 * 1000)
    assert found.basis.startswith("codecarbon 9 during 1 runs (processor 75%, memory 25%")
    assert Tracker.made["force_carbon_intensity_g_co2e_kwh"] == 200
    assert Tracker.made["save_to_file"] is False
    found = measure_energy(lambda: None, meter="codecarbon", country="FRA", **NOWHERE)
    assert "the grid of France" in found.basis
    assert "force_carbon_intensity_g_co2e_kwh" not in Tracker.made


def test_codecarbon_that_fails_or_measures_nothing(codecarbon, monkeypatch):
    with pytest.raises(UsageError, match=r"--meter codecarbon: the package fails: no such country\."):
        measure_energy(lambda: None, meter="codecarbon", country="XXX", **NOWHERE)
    monkeypatch.setattr(Tracker, "used", 0)
    with pytest.raises(UsageError, match="measured nothing"):
        measure_energy(lambda: None, meter="codecarbon", **NOWHERE)


def test_codecarbon_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(UsageError, match=r"pip install sparsify-fx\[carbon\]"):
        measure_energy(lambda: None, meter="codecarbon", **NOWHERE)


def test_the_real_codecarbon():
    pytest.importorskip("codecarbon", reason="the extra carbon is not installed")
    found = measure_energy(lambda: sum(range(10_000)), meter="codecarbon", grid=100, milliseconds=1.0, seconds=2.0)
    assert found.joules > 0
    assert found.co2_grams == pytest.approx(found.joules / 3.6e6 * 100, rel=1e-3)
    assert found.method == "codecarbon"


def test_a_model_runs_for_some_seconds():
    clock = iter([0.0, 1.0, 2.0, 3.5])
    runs = []
    assert energy._repeat(lambda: runs.append(1), 3.0, lambda: next(clock)) == len(runs) == 3
