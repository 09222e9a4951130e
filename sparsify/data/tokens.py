"""Tokens: a text file as numbers, by its bytes or by a tokenizer that lies on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsify.errors import InputError, UsageError, first_line

__all__ = ["read"]


def read(path: Path, tokenizer: Path | None = None) -> Tensor:
    """Return the tokens of a text, `[tokens]`: uint8 if they are its bytes, else int64.

    Args:
        path: of the text; for a tokenizer it must be UTF-8.
        tokenizer: a file of the library tokenizers (`tokenizer.json`), or a folder that a tokenizer of transformers
            was saved to; None for the bytes of the text. No tokens are added at the beginning or the end.

    Raises:
        InputError: the text or the tokenizer cannot be read.
        UsageError: the library that the tokenizer needs is not installed.
    """
    if not path.is_file():
        raise InputError(f"The text {path} does not exist or is no file.")
    if tokenizer is None:
        return torch.from_numpy(np.fromfile(path, np.uint8))
    encode = _encoder(tokenizer)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}.") from error
    return torch.tensor(encode(text), dtype=torch.int64)


def _encoder(path: Path) -> Any:
    """Return the function from text to a list of tokens."""
    if not path.exists():
        raise InputError(f"The tokenizer {path} does not exist. Give a tokenizer.json or the folder of a tokenizer.")
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        if not file.is_file():
            from transformers import AutoTokenizer

            slow = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
            return lambda text: slow.encode(text, add_special_tokens=False)
        from tokenizers import Tokenizer

        fast = Tokenizer.from_file(str(file))
    except ImportError as error:
        raise UsageError(f"The tokenizer {path} needs {error.name}: pip install {error.name}.") from error
    except Exception as error:  # the library raises nothing more special
        raise InputError(f"The tokenizer {path} cannot be read: {first_line(error)}.") from error
    fast.no_truncation()
    fast.no_padding()
    return lambda text: fast.encode(text, add_special_tokens=False).ids
