import sys

import pytest
from helpers.recorder import installed
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.trackers.mlflow import Mlflow


def test_metrics_are_logged_as_one_run(monkeypatch, tmp_path):
    service = installed(monkeypatch, "mlflow")
    tracker = Mlflow(uri="file:here", experiment="mine")
    sp.retrain(program_of(), "fine-tune:steps=3it", Clusters(), listeners=[tracker], work=tmp_path)
    tracker.close()
    assert service.named("set_tracking_uri") == [(("file:here",), {})]
    assert service.named("set_experiment") == [(("mine",), {})]
    ((params,), _) = service.named("log_params")[0]
    assert params["method"] == "fine-tune:steps=3it"
    losses = [(args, kwargs) for args, kwargs in service.named("log_metric") if args[0] == "fine-tune/loss"]
    assert [kwargs["step"] for _, kwargs in losses] == [1, 2, 3]
    assert service.calls[-1][0] == "end_run"


def test_without_the_package_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="pip install mlflow"):
        Mlflow()
