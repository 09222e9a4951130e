"""Published results and reports, made up."""

import csv
import json

from sparsify.published.table import COLUMNS

ROW = {
    "method": "Sieve", "paper": "Doe et al., Sieves", "year": "2021", "architecture": "ResNet-50", "data": "ImageNet",
    "sparsity": "0.9", "macs_removed": "", "metric": "accuracy", "score": "74.5", "dense_score": "76.5",
    "source": "Table 1",
}  # fmt: skip


def write_table(path, *rows, columns=COLUMNS):
    """Write a table whose rows differ from ROW in what is given."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([{**ROW, **row}[name] for name in columns] for row in rows)
    return path


def score(value, name="accuracy", interval=None):
    return {"value": value, "name": name, "n": 100, "interval": interval}


def write_report(path, **changes):
    """Write a report of a run that keeps a tenth of the parameters and a quarter of the MACs."""
    report = {
        "before": {"parameters": 1000, "nonzero": 990, "macs": 4000},
        "after": {"parameters": 1000, "nonzero": 100, "macs": 1000},
        "scores": {"before": score(0.8), "pruned": score(0.1), "after": score(0.75, interval=[0.7, 0.79])},
    }
    path.write_text(json.dumps({**report, **changes}), encoding="utf-8")
    return path
