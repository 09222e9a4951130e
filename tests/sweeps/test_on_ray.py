"""On Ray: a cluster of this machine runs the trials, and what it gives is what a process gives."""

import json
import socket
import sys

import pytest
import torch
from helpers.command import sparsify
from helpers.fake_ray import FakeRay
from helpers.sweeps import RECIPE, write_sweep

from sparsify.errors import UsageError
from sparsify.sweeps.on_ray import run_on_ray
from sparsify.sweeps.recipe import read_plan
from sparsify.sweeps.store import Store, read_report
from sparsify.sweeps.trials import Sweep


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)  # which tasks in this process have set


def swept(folder, seeds=2, retrain="fine-tune:steps=8it", **options):
    """The trials of `pruned` at one sparsity."""
    text = RECIPE.replace("fine-tune:steps=8it", retrain).replace("seeds: 2", f"seeds: {seeds}")
    plan = read_plan(write_sweep(folder, text))
    sweep = Sweep(folder / "out", plan.trials()[:seeds], plan.task, **options)
    Store(sweep.folder).enqueue(sweep.trials)
    return sweep


@pytest.fixture
def fake(monkeypatch):
    def put(*machines, **options):
        made = FakeRay(*machines, **options)
        monkeypatch.setitem(sys.modules, "ray", made)
        return made

    return put


@pytest.mark.slow  # starting Ray takes longer than all other tests of sweeps
def test_a_local_cluster_runs_a_sweep(folder):
    pytest.importorskip("ray")
    write_sweep(folder, RECIPE.replace("untrained: weight-prune:sparsity=$sparsity", "refuses: layer-prune"))
    ran = sparsify(
        "sweep", "sweep.yaml", "--ray", "local", "--jobs", 2, "--batch-seeds", "no", "--out", "ray", "--json"
    )
    assert ran.status == 1
    assert "2 of 6 trials failed" in ran.err
    sparsify("sweep", "sweep.yaml", "--jobs", 1, "--batch-seeds", "no", "--out", "here")
    found = {name: sorted(folder.glob(f"{name}/trials/*/report.json")) for name in ("ray", "here")}
    assert len(found["ray"]) == len(found["here"]) == 4
    for one, other in zip(found["ray"], found["here"], strict=True):
        two = [json.loads(path.read_text()) for path in (one, other)]
        assert two[0]["scores"] == two[1]["scores"]
        assert two[0]["retrain"]["final_loss"] == two[1]["retrain"]["final_loss"]


@pytest.mark.slow
def test_trials_that_are_interrupted_keep_what_they_did(folder):
    pytest.importorskip("ray")
    sweep = swept(folder, retrain="fine-tune:steps=20000it", threads=2)

    def interrupt():
        if any(path.stat().st_size for path in sweep.folder.rglob("log.jsonl")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on_ray(sweep, "local", 1, interrupt)
    assert Store(sweep.folder).counts(sweep.trials) == {"waiting": 2}
    assert list(sweep.folder.rglob("fine-tune/*.ckpt"))


def test_a_local_cluster_has_room_for_the_threads_of_all_jobs(folder, fake):
    ray = fake({"CPU": 4})
    sweep = swept(folder, threads=2, together="no")
    run_on_ray(sweep, "local", 2)
    assert (ray.started["num_cpus"], ray.resources["num_cpus"], ray.most) == (4, 2, 2)
    assert Store(sweep.folder).counts(sweep.trials) == {"complete": 2}


@pytest.mark.parametrize(
    ("machines", "options", "told"),
    [
        ([{"CPU": 2}, {"CPU": 3}], {"threads": 4}, r"needs 4 processors \(--threads\), and no machine"),
        ([{"CPU": 8}], {"device": "cuda"}, r"needs 1 processor \(--threads\) and a GPU \(--device\)"),
        ([{"CPU": 1, "GPU": 2}, {"CPU": 8}], {"device": "cuda", "threads": 2}, "and a GPU"),
    ],
)
def test_a_cluster_that_can_never_take_a_trial_is_refused(folder, fake, machines, options, told):
    ray = fake(*machines)
    with pytest.raises(UsageError, match=told):
        run_on_ray(swept(folder, **options), "auto", 1)
    assert ray.did == ["shutdown"]


def test_each_task_has_a_gpu_of_its_own(folder, fake, monkeypatch):
    ray = fake({"CPU": 16, "GPU": 1})
    monkeypatch.setattr("sparsify.sweeps.on_ray._task", lambda sweep, trials, *rest: [{"error": "none"}] * len(trials))
    run_on_ray(swept(folder, device="cuda", together="no"), "auto", 1)
    assert (ray.resources["num_gpus"], ray.most) == (1, 1)


def interrupt():
    raise KeyboardInterrupt


def test_interrupted_tasks_may_end_their_step_before_ray_is_left(folder, fake):
    ray = fake({"CPU": 3})
    sweep = swept(folder, 3, together="no")
    with pytest.raises(KeyboardInterrupt):
        run_on_ray(sweep, "auto", 1, interrupt)
    assert ray.did == ["wait for 1", [0], "cancel", "cancel", "wait for 2", "shutdown"]
    assert Store(sweep.folder).counts(sweep.trials) == {"complete": 1, "waiting": 2}


def test_what_was_done_before_it_could_be_cancelled_is_kept(folder, fake):
    ray = fake({"CPU": 2})
    sweep = swept(folder, together="no")
    ray.cancel = lambda reference: None
    with pytest.raises(KeyboardInterrupt):
        run_on_ray(sweep, "auto", 1, interrupt)
    assert Store(sweep.folder).counts(sweep.trials) == {"complete": 2}


def test_a_worker_that_dies_is_told(folder, fake):
    fake({"CPU": 2}, deadly=lambda seeds: seeds == [1])
    sweep = swept(folder, together="no")
    run_on_ray(sweep, "auto", 1)
    store = Store(sweep.folder)
    assert store.counts(sweep.trials) == {"complete": 1, "fail": 1}
    lost = sweep.trials[1]
    told = store.errors(sweep.trials)[lost.key]
    assert told.startswith("the Ray worker that ran it died, and the one that tried it again, too (WorkerCrashedError)")
    assert told.endswith("the same command tries it again")
    assert lost.command in (sweep.folder / "trials" / lost.key / "error.txt").read_text()


def test_seeds_that_cannot_go_together_are_tasks_of_their_own(folder, fake):
    ray = fake({"CPU": 2}, deadly=lambda seeds: seeds == [1])
    sweep = swept(folder, retrain="fine-tune:steps=8it,clip=1", together="yes", most=2)
    run_on_ray(sweep, "auto", 1)
    assert [what for what in ray.did if isinstance(what, list)] == [[0, 1], [0]]
    assert Store(sweep.folder).counts(sweep.trials) == {"complete": 1, "fail": 1}
    assert read_report(sweep.folder, sweep.trials[0])["one_by_one"] == "clip=1.0 is for single trainings"


def test_a_cluster_that_is_not_there(folder, monkeypatch):
    pytest.importorskip("ray")
    with socket.socket() as held:  # nobody listens there
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        for name in ("no-such-place", address, f"ray://{address}", "127.0.0.1:99999", "auto"):
            ran = sparsify("sweep", write_sweep(folder), "--ray", name)
            assert ran.status == 2
            assert f"--ray {name}: there is no such cluster" in ran.err


def test_what_ray_says_is_no_part_of_the_result(folder, fake):
    ray = fake({"CPU": 2})
    quiet = ray.wait
    ray.wait = lambda *words, **options: print("(raylet) A worker died.") or quiet(*words, **options)
    ran = sparsify("sweep", write_sweep(folder), "--ray", "auto", "--json")
    assert len(json.loads(ran.out)["trials"]) == 8
    assert "A worker died" in ran.err


def test_a_device_that_is_not_here(folder):
    for words in ((), ("--ray", "local")):
        ran = sparsify("sweep", write_sweep(folder), "--device", "nowhere", *words)
        assert ran.status == 2
        assert "The device 'nowhere' cannot be used" in ran.err


def test_without_ray_it_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = sparsify("sweep", write_sweep(folder), "--ray", "local")
    assert ran.status == 2
    assert "pip install sparsify-fx[ray]" in ran.err
