"""Ray in this process: what a cluster is asked for is written down, and its tasks are run when they are asked for."""

from types import SimpleNamespace


class RayError(Exception):
    pass


class WorkerCrashedError(RayError):
    pass


class Reference:
    """A task, with its function and arguments."""

    def __init__(self, *work):
        self.work, self.cancelled = work, False


class FakeRay:
    """A cluster of some machines.

    Args:
        machines: the resources of each, such as `{"CPU": 2}`.
        deadly: of the seeds of a task, whether its worker dies.
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *machines, deadly=lambda seeds: False):
        self._machines, self._deadly = machines, deadly
        self.started, self.resources, self.did, self.most = {}, {}, [], 0

    def init(self, **options):
        self.started = options

    def shutdown(self):
        self.did.append("shutdown")

    def nodes(self):
        return [{"Alive": True, "Resources": resources} for resources in self._machines]

    def put(self, value):
        return value

    def remote(self, **resources):
        self.resources = resources
        return lambda function: SimpleNamespace(remote=lambda *words: Reference(function, *words))

    def wait(self, references, num_returns=1, timeout=None):
        self.most = max(self.most, len(references))
        self.did.append(f"wait for {num_returns}")
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        function, sweep, trials, *rest = reference.work
        seeds = [trial.seed for trial in trials]
        if reference.cancelled:
            raise RayError("it was cancelled")
        if self._deadly(seeds):
            raise WorkerCrashedError("The worker died unexpectedly while executing this task. Check some files.")
        self.did.append(seeds)
        return function(sweep, trials, *rest)

    def cancel(self, reference):
        self.did.append("cancel")
        reference.cancelled = True
