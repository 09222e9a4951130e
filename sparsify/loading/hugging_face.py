"""Folders as transformers writes them, config.json beside weights. Nothing is downloaded, and nothing of them runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsify.errors import InputError, UsageError, first_line
from sparsify.naming import first_names

__all__ = ["CONFIG", "example_inputs", "is_model_folder", "needed", "quiet", "read_folder"]

CONFIG = "config.json"

_WANTED = "A Hugging Face folder has config.json, which names one of transformers' own classes, and .safetensors files."


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds a model as transformers writes it."""
    return (path / CONFIG).is_file()


def needed() -> Any:
    """Return the module `transformers`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UsageError("Hugging Face folders need the package transformers: pip install transformers.") from None
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing logs and bars of progress to the terminal."""
    logging = needed().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_folder(path: Path, *, cache: bool = False) -> nn.Module:
    """Make the model of a folder, in evaluation mode.

    Args:
        path: of the folder.
        cache: leave on that it returns the keys and values of its attention, which no graph needs.

    Raises:
        UsageError: transformers is not installed.
        InputError: the folder is damaged, its class is not one of transformers, or weights are missing.
    """
    transformers = needed()
    try:
        names = json.loads((path / CONFIG).read_text(encoding="utf-8")).get("architectures") or []
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path / CONFIG} cannot be read: {first_line(error)}. {_WANTED}") from error
    found = getattr(transformers, str(names[0]), None) if len(names) == 1 else None
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise InputError(
            f"{path / CONFIG} names {first_names(list(map(str, names))) or 'no class'} as its architecture. Of folders "
            f"sparsify makes only transformers' own classes ({transformers.__version__}); in Python, sparsify.capture "
            "takes any model."
        )
    with quiet():
        try:
            kind: Any = found
            model, told = kind.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto",
                output_loading_info=True,
            )  # fmt: skip
        except Exception as error:
            raise InputError(
                f"{path} cannot be loaded: {type(error).__name__}: {first_line(error)}. {_WANTED}"
            ) from error
    if lacking := sorted({*map(str, told["missing_keys"]), *map(str, told["mismatched_keys"])}):
        raise InputError(
            f"{path} lacks weights of {found.__name__}, which would be random: {first_names(lacking)}. Get a complete "
            "copy of it."
        )
    if not cache and hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    model.eval()
    return model  # type: ignore[no-any-return]


def example_inputs(model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return random inputs for a model of transformers that takes tokens or images alone; None for others."""
    config: Any = model.config
    generator = torch.Generator().manual_seed(0)
    name = getattr(model, "main_input_name", None)
    if name == "input_ids" and isinstance(getattr(config, "vocab_size", None), int) and not config.is_encoder_decoder:
        return (), {name: torch.randint(config.vocab_size, (2, 16), generator=generator)}
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", None)
    if name == "pixel_values" and isinstance(size, int) and isinstance(channels, int):
        return (), {name: torch.randn(2, channels, size, size, generator=generator)}
    return None
