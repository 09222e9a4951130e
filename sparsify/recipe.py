"""Recipes: everything that decides what a run does, as a YAML file or as the options of the command.

passes:
  - layer-prune:count=2,criterion=snip
retrain: fine-tune:steps=5ep
task: digits
inputs: 1x1x8x8
seed: 0
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sparsify.errors import InputError, UsageError
from sparsify.spec import nearest

__all__ = ["Recipe", "read_recipe"]


@dataclass(frozen=True)
class Recipe:
    """What a run does.

    Attributes:
        passes: specs, in order.
        retrain: spec of the retraining that follows the passes.
        task: data, loss and score.
        inputs: example inputs.
        seed: of everything random.
    """

    passes: tuple[str, ...] = ()
    retrain: str | None = None
    task: str | None = None
    inputs: str | None = None
    seed: int = 0

    def over(self, other: Recipe) -> Recipe:
        """Return this recipe; what it leaves at its default is taken from `other`."""
        default = Recipe()
        chosen = {
            field.name: getattr(
                self if getattr(self, field.name) != getattr(default, field.name) else other, field.name
            )
            for field in fields(self)
        }
        return Recipe(**chosen)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as a recipe file would hold them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items() if v not in (None, ())}

    def options(self) -> list[str]:
        """Return the command-line options that mean the same."""
        words = [word for spec in self.passes for word in ("--pass", spec)]
        for name in ("retrain", "task", "inputs"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name}", value]
        return [*words, "--seed", str(self.seed)] if self.seed else words


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Raises:
        InputError: the file is missing or is not YAML.
        UsageError: it holds something that a recipe does not have; the message names the line.
    """
    import yaml

    path = Path(path)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        raise InputError(f"The recipe {path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(
            f"The recipe {path} must hold keys such as `passes:`; it holds {getattr(root, 'tag', 'nothing')}."
        )
    known = {field.name for field in fields(Recipe)}
    values: dict[str, Any] = {}
    for key, node in root.value:
        line = f"{path}, line {key.start_mark.line + 1}"
        if key.value not in known:
            raise UsageError(
                f"{line}: a recipe has no {key.value!r}{nearest(key.value, known)}. Keys: {', '.join(sorted(known))}."
            )
        values[key.value] = _value(key.value, node, line)
    return Recipe(**values)


def _value(name: str, node: Any, line: str) -> Any:
    import yaml

    if name == "passes":
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(item, yaml.ScalarNode) for item in items):
            raise UsageError(f"{line}: passes must be a list of specs such as `layer-prune:count=2`.")
        return tuple(item.value for item in items)
    if not isinstance(node, yaml.ScalarNode):
        raise UsageError(f"{line}: {name} must be a single value.")
    if name != "seed":
        return node.value
    try:
        return int(node.value)
    except ValueError:
        raise UsageError(f"{line}: seed must be a whole number, not {node.value!r}.") from None
