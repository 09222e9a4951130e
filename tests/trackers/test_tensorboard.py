import pytest
from helpers.sparse import Clusters, program_of

import sparsify as sp

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsify.trackers.tensorboard import Tensorboard


def test_what_happened_can_be_shown(tmp_path):
    tracker = Tensorboard(str(tmp_path))
    spec = "lth:steps=6it,rounds=1,score_every=3it,controls=random"
    record = sp.retrain(program_of(), spec, Clusters(), listeners=[tracker]).report["retrain"]
    tracker.close()
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    names = shown.Tags()["scalars"]
    assert {"round-0/loss", "round-1/score", "random-1/validation_loss", "rounds/score", "random/score"} <= set(names)
    assert [item.step for item in shown.Scalars("round-1/loss")] == [1, 2, 3, 4, 5, 6]
    scores = [item.value for item in shown.Scalars("rounds/score")]
    assert scores == pytest.approx([entry["score"] for entry in record["rounds"]])


def test_updates_of_masks_are_shown_by_layer(tmp_path):
    tracker = Tensorboard(str(tmp_path))
    sp.retrain(program_of(), "dst:steps=20it,sparsity=0.8,every=4it", Clusters(), listeners=[tracker])
    tracker.close()
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert {"dst/itop", "dst/density/0.weight"} <= set(shown.Tags()["scalars"])
