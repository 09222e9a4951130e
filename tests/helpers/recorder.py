"""A stand-in for a service: a module whose calls are written down."""

import sys
import types


class Recorder(types.ModuleType):
    """Any attribute is a function; `calls` holds their names and arguments. It returns itself, as runs are."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "config":
            return self

        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return self

        return call

    def named(self, name):
        """Return the arguments of all calls of a name."""
        return [(args, kwargs) for known, args, kwargs in self.calls if known == name]


def installed(monkeypatch, name):
    """Put a recorder in the place of a package."""
    recorder = Recorder(name)
    monkeypatch.setitem(sys.modules, name, recorder)
    return recorder
