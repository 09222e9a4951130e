"""The store of a sweep: an Optuna study says which trials wait, run, are done or have failed.

A trial is run by whoever holds the lock of its folder, which the system takes from a process that ends, however it
ends. So a trial that the study has as running, and whose lock is free, was lost, and whoever finds it runs it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sparsify.atomic import writing
from sparsify.errors import InputError, UsageError, first_line, unreadable
from sparsify.sweeps.trials import Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["Claim", "Outcome", "Store", "read_report", "trial_folder"]

_STUDY = "sweep"
_LOST = 2  # a trial that takes its process with it so often has failed
_LOG = "log.jsonl"

Outcome = Mapping[str, Any]
"""What became of a trial: `report`, or `error` with its `trace`."""


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs.

    Attributes:
        trial: what to run.
        number: of Optuna's trial.
        lock: held until it is settled.
    """

    trial: Trial
    number: int
    lock: IO[str]


class Store:
    """What is known of the trials of a sweep; any number of processes may have one of the same folder.

    Args:
        folder: of the sweep; it is made.

    Raises:
        UsageError: Optuna is not installed.
        InputError: the folder cannot be made, or the study in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise UsageError("Sweeps need Optuna: pip install sparsify-fx[sweep].") from error
        try:
            (folder / "trials").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be used: {error.strerror or error}.") from error
        self._folder, self._states = folder, optuna.trial.TrialState
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        journal = folder / "optuna.log"
        lock: Any = _Lock(folder / ".optuna.lock", journal)
        with _locked(folder / ".sweep.lock"), _blamed(journal):
            self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
            self._study = optuna.create_study(
                study_name=_STUDY, storage=self._storage, directions=["maximize", "minimize"], load_if_exists=True
            )

    def enqueue(self, trials: Sequence[Trial]) -> None:
        """Let the study have each trial once: those that it does not have wait, those that failed wait again."""
        import optuna

        with _locked(self._folder / ".sweep.lock"):
            known = self._known()
            for trial in {trial.key: trial for trial in trials}.values():
                last = known.get(trial.key)
                if last is not None and self._stays(trial, last):
                    continue
                cell = trial.cell
                told = {"key": trial.key, "model": cell.model, "method": cell.method, "sparsity": cell.sparsity}
                made = optuna.trial.create_trial(
                    state=self._states.WAITING, user_attrs={**told, "seed": trial.seed, "lost": 0}
                )
                self._study.add_trial(made)

    def claim(self, trials: Sequence[Trial]) -> Claim | None:
        """Take the first of some trials that nobody runs and that is not done; None if there is none."""
        known = self._known()
        for trial in trials:
            last = known.get(trial.key)
            if last is None or last.state.is_finished():
                continue
            lock = _taken(trial_folder(self._folder, trial) / ".lock")
            if lock is None:
                continue
            claim = Claim(trial, last._trial_id, lock)
            if self._starts(claim):
                return claim
            lock.close()
        return None

    def settle(self, claim: Claim, outcome: Outcome) -> None:
        """Write down what became of a trial, and let go of it.

        Raises:
            InputError: it cannot be written, as on a full disk.
        """
        folder = trial_folder(self._folder, claim.trial)
        try:
            report = outcome.get("report")
            if report is not None:
                with writing(folder / "report.json") as path:
                    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
                _tidy(folder)
                self._storage.set_trial_state_values(claim.number, self._states.COMPLETE, _values(report))
                return
            with writing(folder / "error.txt") as path:
                path.write_text(f"{outcome['error']}\n\n{outcome.get('trace', '')}", encoding="utf-8")
            self._storage.set_trial_user_attr(claim.number, "error", outcome["error"])
            self._storage.set_trial_state_values(claim.number, self._states.FAIL)
        finally:
            claim.lock.close()

    def put_back(self, claim: Claim) -> None:
        """Let others run a trial that was interrupted."""
        self._storage.set_trial_state_values(claim.number, self._states.WAITING)
        claim.lock.close()

    def open(self, trials: Sequence[Trial]) -> bool:
        """Whether some of the trials are neither done nor failed."""
        known = self._known()
        return any(trial.key in known and not known[trial.key].state.is_finished() for trial in trials)

    def waiting(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return those of some trials that nobody has begun."""
        known = self._known()
        return [trial for trial in trials if trial.key in known and known[trial.key].state == self._states.WAITING]

    def errors(self, trials: Sequence[Trial]) -> dict[str, str]:
        """Return what went wrong, by key."""
        known = self._known()
        return {
            key: str(known[key].user_attrs.get("error", "it failed"))
            for key in dict.fromkeys(trial.key for trial in trials)
            if key in known and known[key].state == self._states.FAIL
        }

    def counts(self, trials: Sequence[Trial]) -> Counter[str]:
        """Return how many trials are waiting, running, complete and fail."""
        known = self._known()
        return Counter(known[key].state.name.lower() for key in {trial.key for trial in trials} if key in known)

    def _known(self) -> dict[str, FrozenTrial]:
        """Return the last trial of each key."""
        found = self._study.get_trials(deepcopy=False)
        return {str(trial.user_attrs["key"]): trial for trial in found if "key" in trial.user_attrs}

    def _stays(self, trial: Trial, last: FrozenTrial) -> bool:
        """Whether a trial that the study has needs no other; one that was lost waits again, as if it never had been."""
        if last.state == self._states.COMPLETE:
            return (trial_folder(self._folder, trial) / "report.json").exists()
        if last.state == self._states.RUNNING and (lock := _taken(trial_folder(self._folder, trial) / ".lock")):
            self._storage.set_trial_user_attr(last._trial_id, "lost", 0)
            self._storage.set_trial_state_values(last._trial_id, self._states.WAITING)
            lock.close()
        return not last.state.is_finished()

    def _starts(self, claim: Claim) -> bool:
        """Whether a trial whose lock is ours is to be run; one that was lost is ours, too."""
        now = self._storage.get_trial(claim.number)  # others may have done it before the lock was ours
        if now.state.is_finished():
            return False
        if (report := read_report(self._folder, claim.trial)) is not None:  # it was lost behind its last line
            self._storage.set_trial_state_values(claim.number, self._states.COMPLETE, _values(report))
            return False
        if now.state == self._states.WAITING:
            return bool(self._storage.set_trial_state_values(claim.number, self._states.RUNNING))
        lost = int(now.user_attrs.get("lost", 0)) + 1
        self._storage.set_trial_user_attr(claim.number, "lost", lost)
        if lost < _LOST:
            return True
        text = "its process was killed twice, which the system does where memory is short: give fewer --jobs"
        self._storage.set_trial_user_attr(claim.number, "error", text)
        self._storage.set_trial_state_values(claim.number, self._states.FAIL)
        return False


def trial_folder(folder: Path, trial: Trial) -> Path:
    """Return where a trial keeps what it does."""
    return folder / "trials" / trial.key


def read_report(folder: Path, trial: Trial) -> dict[str, Any] | None:
    """Return the report of a trial; None if it is not done.

    Raises:
        InputError: the report is damaged.
    """
    path = trial_folder(folder, trial) / "report.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        text = f"{path} cannot be read: {unreadable(error)}. Delete it, and the trial is run again."
        raise InputError(text) from error
    return found


def _values(report: Mapping[str, Any]) -> list[float]:
    return [float(report["score"]), report["after"]["nonzero"] / max(1, report["before"]["parameters"])]


def _tidy(folder: Path) -> None:
    """Leave of the work of a trial that is done its log, and of errors before it nothing."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "work" / _LOG).replace(folder / _LOG)
    shutil.rmtree(folder / "work", ignore_errors=True)
    (folder / "error.txt").unlink(missing_ok=True)


def _taken(path: Path) -> IO[str] | None:
    """Take a lock; None if another process has it."""
    path.parent.mkdir(exist_ok=True)
    file = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _blamed(journal: Path) -> Iterator[None]:
    """Say which file is damaged, whatever Optuna stumbles over."""
    try:
        yield
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{journal} is damaged: {first_line(error)}. Delete it: what is done has its reports and is not run again."
        ) from error


class _Lock:
    """Optuna's lock of its journal, as the system's: one that a killed process holds does not stop others.

    Whoever takes it is about to write. A last line that was not written whole, as on a disk that is full, goes first:
    what it said is run or told again, while a line behind it would make the journal unreadable.
    """

    def __init__(self, path: Path, journal: Path) -> None:
        self._path, self._journal = path, journal
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        self._file = self._path.open("a", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        _drop_torn_line(self._journal)
        return True

    def release(self) -> None:
        assert self._file is not None
        self._file.close()


def _drop_torn_line(journal: Path) -> None:
    with journal.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0 or (file.seek(end - 1), file.read(1))[1] == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
