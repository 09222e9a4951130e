"""Reports to draw that no run made."""

from copy import deepcopy

BEFORE = {"parameters": 1000, "nonzero": 1000, "macs": 8000, "bytes": 4000, "trainable": 1000}
SIDE = {"shape": [4, 4, 3, 3], "parameters": 144, "nonzero": 144, "macs": 1000}
ROW = {"module": "conv", "before": SIDE, "after": SIDE, "milliseconds": [0.2, 0.1], "sensitivity": 0.5, "pattern": ""}


def score(value, interval=None, name="accuracy", n=450):
    return {"value": value, "name": name, "n": n, "interval": interval}


def speed(ratio, verdict="faster"):
    return {"ratio": ratio, "low": ratio * 0.98, "high": ratio * 1.02, "verdict": verdict}


def latency(ratio=1.6, verdict="faster", size=1000):
    side = {"median": 0.08, "low": 0.07, "high": 0.09, "runs": 100, "threads": 2, "batch": 1}
    after = {**side, "median": 0.08 / ratio}
    return {"before": side, "after": after, "dense_bytes": 2000, "bytes": size, "speed": speed(ratio, verdict)}


def report(**changes):
    """Return a report of a run that changed nothing, with some entries replaced."""
    made = {
        "schema": 1,
        "model": "folder/model.pt2",
        "command": "sparsify folder/model.pt2 --pass layer-prune",
        "pipeline": ["layer-prune:count=1"],
        "seed": 0,
        "before": BEFORE,
        "after": BEFORE,
        "pruned": None,
        "dynamic_batch": True,
        "macs_batch": 1,
        "passes": [],
        "retrain": None,
        "score": None,
        "scores": None,
        "notes": [],
        "gates": [],
        "latency": None,
        "artefacts": [],
        "layers": {
            "rows": [ROW], "rest_macs": [10, 10], "rest_milliseconds": [0.1, 0.1], "sensitivity": "not measured",
            "sparse_layers": False,
        },
        "environment": {"python": "3", "system": "Linux", "processor": "fast", "cores": 2, "packages": {"torch": "2"}},
        "load_seconds": 1.0,
        "seconds": 4.0,
    }  # fmt: skip
    return deepcopy({**made, **changes})
