"""What rules of sparse training take, and with which defaults, as their source text says; nothing is imported."""

from __future__ import annotations

from sparsify import registry

__all__ = ["RULE_OPTIONS", "defaults", "takers"]

RULE_OPTIONS = ("every", "alpha", "until")
_PACKAGE = "sparsify.mask_updates"


def defaults(method: str) -> dict[str, str]:
    """Return the options that a rule takes with its own defaults, as a spec writes them.

    Raises:
        UsageError: there is no such rule.
    """
    entry = registry.find(_PACKAGE, method)
    known = {option.name: option.default or "" for option in entry.options if option.name in RULE_OPTIONS}
    return {**known, "every": entry.pace} if "every" in known else known


def takers(option: str) -> list[str]:
    """Return the rules that take an option."""
    return [method for method in registry.entries(_PACKAGE) if option in defaults(method)]
