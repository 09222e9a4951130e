"""What retrainings did, made up, and the panels that are drawn of it."""

import pytest
from matplotlib.figure import Figure

from sparsify.report.history import History
from sparsify.report.plots import plot


def entry(number, score, density, control=None):
    network = control or ("ticket" if number else "dense")
    known = {"round": number, "score": score, "density": density, "nonzero_share": density, "network": network,
             "interval": [score - 0.1, score + 0.05]}  # fmt: skip
    return known if control is None else {**known, "control": control}


def lottery(name, shift=0.0):
    rounds = [entry(0, 0.9, 1.0), entry(1, 0.9 + shift, 0.5), entry(2, 0.8 + shift, 0.25)]
    controls = [entry(1, 0.7, 0.5, "random"), entry(2, 0.5, 0.25, "random")]
    points = [{"step": step, "score": 0.1 * step, "validation_loss": 1.0} for step in (1, 2, 3)]
    names = ("round-0", "round-1", "round-2", "random-1", "random-2")
    return History(name, "lth", {}, dict.fromkeys(names, points), {}, rounds, controls)


def sparse(name, method):
    updates = [{"step": step, "grown": 10 - step, "kept": 100, "itop": 0.1 * step, "density": 0.1,
                "layers": {"a": 0.1 + 0.01 * step, "b": 0.1}} for step in (1, 2, 3)]  # fmt: skip
    steps = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    return History(name, method, {"dst": steps}, {}, {"dst": updates})


def panels(folder, *histories):
    """Draw into a folder, and return the panels by their titles."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, path, **_: (kept.append(self), path.write_bytes(b"PNG")))
        plot(histories, folder / "x.png")
    return {axis.get_title(): axis for axis in kept[0].axes}


def lines(axis):
    return {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}


def labels(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]
