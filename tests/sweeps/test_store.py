"""The store: each trial once, lost ones again, failed ones when asked."""

import json

import pytest
from helpers.sweeps import report, trial

from sparsify.errors import InputError
from sparsify.sweeps.store import Store, read_report, trial_folder

TRIALS = [trial("k0"), trial("k1", seed=1), trial("k2", seed=2)]


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "sweep")
    made.enqueue(TRIALS)
    return made


@pytest.fixture
def other(store, tmp_path):
    """Another command on the same folder."""
    return Store(tmp_path / "sweep")


def test_each_trial_is_given_once(store, other):
    given = [store.claim(TRIALS), other.claim(TRIALS), store.claim(TRIALS)]
    assert [claim.trial.key for claim in given] == ["k0", "k1", "k2"]
    assert other.claim(TRIALS) is None
    assert store.counts(TRIALS) == {"running": 3}
    assert store.waiting(TRIALS) == []
    assert other.open(TRIALS)


def test_what_is_done_stays_done(store, other, tmp_path):
    for one in TRIALS:
        store.settle(store.claim([one]), {"report": report()})
    other.enqueue([*TRIALS, trial("k3")])
    assert other.counts([*TRIALS, trial("k3")]) == {"complete": 3, "waiting": 1}
    assert not other.open(TRIALS)
    assert read_report(tmp_path / "sweep", TRIALS[0]) == report()
    assert read_report(tmp_path / "sweep", trial("k3")) is None
    assert store.errors(TRIALS) == {}


def test_optuna_has_scores_and_sizes(store, tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    store.settle(store.claim(TRIALS), {"report": report(0.75, nonzero=20)})
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "sweep" / "optuna.log")))
    (best,) = optuna.load_study(study_name="sweep", storage=storage).best_trials
    assert best.values == [0.75, 0.2]
    assert best.user_attrs["method"] == "a"


def test_a_trial_whose_process_was_killed_is_run_again(store, other):
    claim = store.claim(TRIALS)
    claim.lock.close()  # as the system does
    again = other.claim(TRIALS)
    assert again.trial == claim.trial
    other.settle(again, {"report": report()})
    assert store.counts(TRIALS) == {"complete": 1, "waiting": 2}


def test_a_trial_that_kills_its_process_each_time_fails(store, other):
    for _ in range(2):
        store.claim(TRIALS[:1]).lock.close()
    assert store.claim(TRIALS[:1]) is None
    assert "killed twice" in store.errors(TRIALS)["k0"]
    other.enqueue(TRIALS)
    assert other.claim(TRIALS[:1]).trial.key == "k0"


def test_a_new_command_does_not_count_what_was_lost_before(store, other):
    for _ in range(4):
        store.claim(TRIALS[:1]).lock.close()
        other.enqueue(TRIALS)
    assert store.claim(TRIALS[:1]) is not None


def test_a_trial_that_was_lost_behind_its_report_is_done(store, other, tmp_path):
    store.claim(TRIALS[:1]).lock.close()
    path = trial_folder(tmp_path / "sweep", TRIALS[0]) / "report.json"
    path.write_text(json.dumps(report()))
    assert other.claim(TRIALS[:1]) is None
    assert other.counts(TRIALS[:1]) == {"complete": 1}


def test_failed_trials_are_tried_again_by_the_next_command(store, other, tmp_path):
    store.settle(store.claim(TRIALS), {"error": "it diverged", "trace": "Traceback"})
    assert store.errors(TRIALS) == {"k0": "it diverged"}
    file = trial_folder(tmp_path / "sweep", TRIALS[0]) / "error.txt"
    assert file.read_text() == "it diverged\n\nTraceback"
    assert store.claim(TRIALS).trial.key == "k1"
    other.enqueue(TRIALS)
    other.settle(other.claim(TRIALS), {"report": report()})
    assert other.errors(TRIALS) == {}
    assert not file.exists()


def test_what_was_interrupted_waits(store, other):
    store.put_back(store.claim(TRIALS))
    assert other.claim(TRIALS).trial.key == "k0"


def test_a_report_that_was_deleted_is_made_again(store, other, tmp_path):
    store.settle(store.claim(TRIALS), {"report": report()})
    (trial_folder(tmp_path / "sweep", TRIALS[0]) / "report.json").unlink()
    other.enqueue(TRIALS)
    assert other.claim(TRIALS).trial.key == "k0"


def test_without_the_study_reports_are_enough(store, tmp_path):
    store.settle(store.claim(TRIALS), {"report": report()})
    (tmp_path / "sweep" / "optuna.log").unlink()
    again = Store(tmp_path / "sweep")
    again.enqueue(TRIALS)
    assert again.claim(TRIALS).trial.key == "k1"


@pytest.mark.parametrize("torn", [1, 40, 400])
def test_a_last_line_that_was_not_written_whole_is_dropped(store, tmp_path, torn):
    store.settle(store.claim(TRIALS), {"report": report()})
    journal = tmp_path / "sweep" / "optuna.log"
    journal.write_bytes(journal.read_bytes()[:-torn])
    for _ in range(2):
        again = Store(tmp_path / "sweep")
        again.enqueue(TRIALS)
        assert again.claim(TRIALS[:1]) is None
        assert again.open(TRIALS[1:])
    assert again.counts(TRIALS) == {"complete": 1, "waiting": 2}
    assert [json.loads(line) for line in journal.read_text().splitlines()]


def test_nobody_writes_behind_a_torn_line(store, other, tmp_path):
    with (tmp_path / "sweep" / "optuna.log").open("a") as file:
        file.write('{"op_code":6,"work')
    assert store.claim(TRIALS).trial.key == "k0"
    assert other.counts(TRIALS) == {"running": 1, "waiting": 2}


@pytest.mark.parametrize("damage", ["nonsense", "{}", "[]", "3", '{"op_code": 99, "worker_id": ""}', "\udcff"])
@pytest.mark.parametrize("at", [0, 2, -1])
def test_a_damaged_study_is_named(store, tmp_path, damage, at):
    journal = tmp_path / "sweep" / "optuna.log"
    lines = journal.read_bytes().splitlines()
    lines[at] = damage.encode(errors="surrogateescape")
    journal.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(InputError, match=r"optuna.log is damaged: .*Delete it: what is done"):
        Store(tmp_path / "sweep")


def test_of_the_work_of_a_trial_its_log_stays(store, tmp_path):
    claim = store.claim(TRIALS)
    folder = trial_folder(tmp_path / "sweep", claim.trial)
    (folder / "work").mkdir()
    (folder / "work" / "log.jsonl").write_text("{}\n")
    store.settle(claim, {"report": report()})
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "log.jsonl", "report.json"]


def test_a_damaged_report_is_named(tmp_path):
    folder = trial_folder(tmp_path, TRIALS[0])
    folder.mkdir(parents=True)
    (folder / "report.json").write_text("{")
    with pytest.raises(InputError, match=r"report.json cannot be read.*Delete it"):
        read_report(tmp_path, TRIALS[0])


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "sweep").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        Store(tmp_path / "sweep")
