"""Energy: estimates of what inferences take, and of the CO2 that comes of it; each says what it rests on.

None of them is a measurement of one model alone. Seconds times watts takes power as constant; a processor's counters
(RAPL) see everything that it does, and neither memory nor the power supply; codecarbon adds a model of memory and
takes the power of processors that it cannot read from a table. What arithmetic needs, counted in multiply-
accumulates, is a lower bound that no machine reaches.

Reference: Horowitz, Computing's Energy Problem (and What We Can Do about It), 2014; IEA, Global Energy and CO2 Status
Report, 2019; Lacoste et al., Quantifying the Carbon Emissions of Machine Learning, 2019 (codecarbon's approach).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sparsify.errors import UsageError, first_line
from sparsify.latency import Run

__all__ = ["ASSUMED_WATTS", "GRID", "INFERENCES", "Energy", "Meter", "arithmetic_joules", "measure_energy"]

GRID = 475.0  # g of CO2 for each kWh, the mean of the world in 2018: IEA, Global Energy and CO2 Status Report 2019
ASSUMED_WATTS = 65.0  # the thermal design power of a common desktop processor
INFERENCES = 1000  # what everything is given for
_MAC = 4.6e-12  # joules of a 32-bit multiplication (3.7 pJ) and addition (0.9 pJ) in 45 nm: Horowitz 2014
_PER_KWH = 3.6e6  # joules

Meter = Literal["auto", "watts", "rapl", "codecarbon"]


@dataclass(frozen=True)
class Energy:
    """An estimate for 1,000 inferences.

    Attributes:
        joules: of energy.
        co2_grams: that come of it.
        method: watts, rapl or codecarbon.
        basis: what it rests on, in words.
    """

    joules: float
    co2_grams: float
    method: str
    basis: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def arithmetic_joules(macs: float) -> float:
    """Return the energy of the arithmetic of 1,000 inferences, 4.6 pJ for each multiply-accumulate.

    That is what 32 bits take in 45 nm. It leaves out moving data, which usually takes more: a lower bound, good for
    comparing models only.
    """
    return INFERENCES * macs * _MAC


def measure_energy(
    run: Run,
    *,
    batch: int = 1,
    milliseconds: float,
    meter: Meter = "auto",
    watts: float | None = None,
    grid: float = GRID,
    country: str | None = None,
    seconds: float = 2.0,
    powercap: Path = Path("/sys/class/powercap"),
) -> Energy:
    """Estimate the energy of 1,000 inferences.

    Args:
        run: runs the model once on a batch.
        batch: how many examples that has.
        milliseconds: how long it takes, measured before.
        meter: `watts` multiplies time and power; `rapl` reads the processor's counters while the model runs;
            `codecarbon` asks that package; `auto` takes the counters where they can be read and no watts are given.
        watts: the power of the machine while it runs the model.
        grid: grams of CO2 for each kWh.
        country: three letters, whose grid codecarbon takes instead.
        seconds: how long the model runs for the counters and for codecarbon.
        powercap: where Linux keeps the counters.

    Raises:
        UsageError: the counters cannot be read, or codecarbon is not installed or fails.
    """
    counters = _counters(powercap)
    if meter == "codecarbon":
        return _codecarbon(run, batch, grid, country, seconds)
    if meter == "rapl" and not counters:
        raise UsageError(
            f"--meter rapl: there are no energy counters under {powercap} that may be read. Give --watts, or have "
            "energy_uj made readable."
        )
    if meter == "rapl" or (meter == "auto" and watts is None and counters):
        return _rapl(run, batch, grid, seconds, counters)
    power = ASSUMED_WATTS if watts is None else watts
    known = f"{power:g} W" + (" (assumed: a common desktop processor's; --watts says better)" if watts is None else "")
    joules = power * milliseconds / 1e3 / batch * INFERENCES
    return _energy(joules, grid, "watts", f"measured time x {known}")


def _energy(joules: float, grid: float, method: str, basis: str) -> Energy:
    source = " (the world's mean in 2018, IEA)" if grid == GRID else ""
    return Energy(joules, joules / _PER_KWH * grid, method, f"{basis}; {grid:g} g/kWh{source}")


def _counters(folder: Path) -> list[Path]:
    """Return the counters of whole processors that may be read; those of parts have a second number."""
    found = []
    for place in sorted(folder.glob("intel-rapl:*")):
        counter = place / "energy_uj"
        try:
            counter.read_text()
        except OSError:
            continue
        if place.name.count(":") == 1:
            found.append(counter)
    return found


def _rapl(run: Run, batch: int, grid: float, seconds: float, counters: list[Path]) -> Energy:
    before = [int(path.read_text()) for path in counters]
    runs = _repeat(run, seconds)
    used = 0
    for path, start in zip(counters, before, strict=True):
        now = int(path.read_text())
        wrap = path.with_name("max_energy_range_uj")  # the counter starts again at 0 behind it
        used += now - start if now >= start else now - start + int(wrap.read_text())
    basis = f"the processor's counters (RAPL) during {runs} runs, with all else that it did"
    return _energy(used / 1e6 / (runs * batch) * INFERENCES, grid, "rapl", basis)


def _codecarbon(run: Run, batch: int, grid: float, country: str | None, seconds: float) -> Energy:
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError as error:
        raise UsageError("--meter codecarbon needs the package: pip install sparsify-fx[carbon].") from error
    own: dict[str, Any] = {} if country else {"force_carbon_intensity_g_co2e_kwh": grid}
    try:
        tracker = OfflineEmissionsTracker(
            country_iso_code=country or "USA", save_to_file=False, log_level="critical", measure_power_secs=1,
            tracking_mode="process", allow_multiple_runs=True, **own,
        )  # fmt: skip
        tracker.start()
        runs = _repeat(run, seconds)
        emitted = tracker.stop()
        data = tracker.final_emissions_data
    except Exception as error:
        raise UsageError(f"--meter codecarbon: the package fails: {first_line(error)}.") from error
    if emitted is None or data.energy_consumed <= 0:
        raise UsageError("--meter codecarbon: the package measured nothing. Give more --seconds.")
    share = INFERENCES / (runs * batch)
    where = f"the grid of {data.country_name}" if country else f"{grid:g} g/kWh"
    parts = (
        f"processor {data.cpu_energy / data.energy_consumed:.0%}, memory {data.ram_energy / data.energy_consumed:.0%}"
    )
    basis = f"codecarbon {data.codecarbon_version} during {runs} runs ({parts}, the rest GPUs); {where}"
    return Energy(data.energy_consumed * _PER_KWH * share, emitted * 1e3 * share, "codecarbon", basis)


def _repeat(run: Run, seconds: float, clock: Callable[[], float] = time.perf_counter) -> int:
    """Run for some seconds; return how often."""
    end, runs = clock() + seconds, 0
    while runs == 0 or clock() < end:
        run()
        runs += 1
    return runs
