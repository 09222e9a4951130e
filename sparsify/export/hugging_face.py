"""Hugging Face folders: a program as config.json and .safetensors, which transformers and what builds on it load.

The numbers of the configuration follow the program where the model's own code can express it: fewer layers, and widths
that are the same in all layers. The folder is loaded again by transformers, and must compute what the program does.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsify.atomic import writing_folder
from sparsify.capture import capture
from sparsify.coding.tensor_file import Part
from sparsify.errors import ExportError, InputError, first_line
from sparsify.export.config_sizes import INSTEAD, Settings, Shapes, with_sizes, without_layers
from sparsify.export.plain_state import plain_parts
from sparsify.export.shards import write_shards
from sparsify.loading.hugging_face import needed, quiet
from sparsify.naming import first_names
from sparsify.program import Program, check_program, dynamic_sizes
from sparsify.writing.trials import Trials

__all__ = ["check_expressible", "save_hugging_face"]

_OWN = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".index.json", ".py")
"""Endings of files that are not copied: weights, which are others now, and code."""


def save_hugging_face(
    program: Program,
    model: nn.Module,
    folder: str | Path,
    *,
    source: str | Path | None = None,
    before: Program | None = None,
) -> dict[str, Any]:
    """Write a program as a folder that `from_pretrained` reads; masked weights are zeros in it.

    One tensor is made and written after the other, into files of at most 5 GB unless a tensor is larger. Experts have
    the names that the published files of their model have, one tensor for each, as vLLM reads them.

    Args:
        program: what `capture(model, ...)` gave, made smaller by passes.
        model: a model of transformers; it stays as it is.
        folder: a new or empty one.
        source: the folder that the model came from; its other files, such as the tokenizer's, are copied.
        before: what `capture(model, ...)` gave; without it the model is captured again.

    Returns:
        What was checked: `bytes`, and `config`, old and new values of the configuration where they differ.

    Raises:
        UsageError: transformers is not installed, or it is no program.
        InputError: the model is none of transformers, or the folder cannot be made or written.
        ExportError: the model's code cannot express the program, or computes something else.
    """
    check_program(program)
    if not isinstance(model, needed().PreTrainedModel):
        raise InputError(f"save_hugging_face takes a model of transformers, not a {type(model).__name__}.")
    make = _Maker(model)
    held, possible = _expressed(program, model, make, before)
    with writing_folder(folder) as temporary, quiet():
        try:
            fitted = _written(program, model, make, possible, held, folder=temporary)
        except OSError as error:  # such as a full disk
            raise InputError(f"{folder} cannot be written: {error.strerror or error}.") from error
        if source is not None:
            _copy_others(Path(source), temporary)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        return {"bytes": size, "config": _changes(make.settings, fitted)}


def check_expressible(program: Program, model: nn.Module) -> None:
    """Check that a configuration of a model of transformers gives the shapes of a program.

    Raises:
        ExportError: the model's code cannot express it.
    """
    _, possible = _expressed(program, model, _Maker(model), None)
    next(possible)


def _expressed(
    program: Program, model: nn.Module, make: _Maker, before: Program | None
) -> tuple[dict[str, Part], Iterator[Settings]]:
    """Return the state of a program by the model's names, and configurations that have its shapes, one at a time."""
    held, removed = _state(program, model, before)
    settings: Settings = copy.deepcopy(make.settings)
    for path, (count, places) in removed.items():
        names = {moved for name in make(settings) if (moved := _moved(name, {path: places})) is not None}
        settings = without_layers(settings, make, names, count=count, removed=places, where=path)
    wanted = {name: tuple(part.shape) for name, part in held.items()}
    if strange := sorted(set(make(settings)).symmetric_difference(wanted)):
        raise ExportError(f"{type(model).__name__} cannot express {first_names(strange)}: {_WHY} {INSTEAD}")
    return held, with_sizes(settings, make, wanted)


_WHY = "a pass took a part of a layer out, or added a parameter, and the model's code has every part in every layer."


class _Maker:
    """Returns the shapes of a model's state for a configuration, in plain values."""

    def __init__(self, model: Any) -> None:
        self._class, self._config = type(model), model.config
        self.settings: Settings = model.config.to_dict()
        self._known: dict[str, Shapes] = {}

    def __call__(self, settings: Settings) -> Shapes:
        key = json.dumps(settings, sort_keys=True, default=str)
        if key not in self._known:
            state = self.make(settings).state_dict()
            self._known[key] = {name: tuple(value.shape) for name, value in state.items()}
        return self._known[key]

    def make(self, settings: Settings) -> Any:
        """Make the model without memory."""
        with quiet(), torch.device("meta"):
            return self._class(type(self._config).from_dict(copy.deepcopy(settings)))


def _state(
    program: Program, model: nn.Module, before: Program | None
) -> tuple[dict[str, Part], dict[str, tuple[int, list[int]]]]:
    """Return what the smaller model's state is, and for every list of layers how many it has and which are gone.

    Parameters that the program's example does not reach are the model's.
    """
    original = plain_parts(_captured(program, model) if before is None else before)
    whole = {name: Part.of(name, value) for name, value in model.state_dict().items()}
    found = plain_parts(program)
    gone = {name for name in original if name not in found}
    removed: dict[str, tuple[int, list[int]]] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(path.startswith(f"{outer}.") for outer in removed):
            inside = [[name for name in original if name.startswith(f"{path}.{i}.")] for i in range(len(module))]
            places = [i for i, names in enumerate(inside) if names and gone.issuperset(names)]
            if places:
                removed[path] = (len(module), places)
    moves = {path: places for path, (_, places) in removed.items()}
    held = {_moved(name, moves): found.get(name, whole.get(name)) for name in {**whole, **found} if name not in gone}
    return {name: part for name, part in held.items() if name is not None and part is not None}, removed


def _captured(program: Program, model: Any) -> Program:
    """Return the program of the model as it is, which has what the example reaches."""
    dynamic = [set(dynamic_sizes(node)) for node in program.placeholders]
    cache = getattr(model.config, "use_cache", None)
    try:
        if cache is not None:
            model.config.use_cache = False
        example = program.example
        return capture(model, example.args, example.kwargs, program.dynamic_batch, dynamic=dynamic)
    finally:
        if cache is not None:
            model.config.use_cache = cache


def _moved(name: str, removed: Mapping[str, Sequence[int]]) -> str | None:
    """Return what a name is once layers are gone; None if it went with one."""
    for path, places in removed.items():
        if name.startswith(f"{path}."):
            place, _, rest = name.removeprefix(f"{path}.").partition(".")
            if int(place) in places:
                return None
            return f"{path}.{int(place) - sum(other < int(place) for other in places)}.{rest}"
    return name


def _written(
    program: Program, model: Any, make: _Maker, fitting: Iterable[Settings], held: Mapping[str, Part], *, folder: Path
) -> Settings:
    """Write the model with the first configuration that is right, and return that.

    Raises:
        ExportError: none is.
    """
    wrong: ExportError | None = None
    for settings in fitting:
        for file in folder.iterdir():
            file.unlink()
        _write(model, make, settings, held, folder)
        try:
            _check(program, type(model), folder)
        except ExportError as error:
            wrong = wrong or error
        else:
            return settings
    assert wrong is not None
    raise wrong


def _write(model: Any, make: _Maker, settings: Settings, held: Mapping[str, Part], folder: Path) -> None:
    """Let transformers write the configuration, and the weights as it would."""
    smaller = make.make(settings)
    empty = {name: torch.empty(tuple(part.shape), dtype=part.dtype, device="meta") for name, part in held.items()}
    smaller.load_state_dict(empty, assign=True)  # the configuration says the type
    smaller.tie_weights()
    if model.can_generate():
        smaller.generation_config = copy.deepcopy(model.generation_config)
    smaller.save_pretrained(folder, state_dict={})
    write_shards(smaller, held, folder)


def _check(program: Program, kind: Any, folder: Path) -> None:
    """Load a folder, and compare what it computes with the program.

    Raises:
        ExportError: it computes something else.
    """
    try:
        again, told = kind.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype="auto", output_loading_info=True
        )
    except Exception as error:
        raise ExportError(f"transformers cannot load what was written: {first_line(error)}. {INSTEAD}") from error
    if other := sorted(name for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in told[key]):
        raise ExportError(f"transformers reads other weights than were written: {first_names(other)}. {INSTEAD}")
    trials = Trials(program, again.eval())
    for cache in (False, True):  # as the program was captured
        again.config.use_cache = cache
        if (outcome := trials.run()).right:
            return
    what = "differs" if outcome.error is None else f"fails: {type(outcome.error).__name__}: {first_line(outcome.error)}"
    raise ExportError(
        f"With these sizes {kind.__name__} computes something else than the program ({what}): its code derives more "
        f"from the configuration than the shapes of weights. {INSTEAD}"
    )


def _copy_others(source: Path, folder: Path) -> None:
    """Copy what lies beside the weights: the tokenizer, the licence, the card of the model."""
    for file in sorted(source.iterdir()):
        target = folder / file.name
        if file.is_file() and not file.name.startswith(".") and not file.name.endswith(_OWN) and not target.exists():
            shutil.copyfile(file, target)


def _changes(before: Settings, after: Settings) -> dict[str, Any]:
    return {key: [before.get(key), value] for key, value in after.items() if before.get(key) != value}
