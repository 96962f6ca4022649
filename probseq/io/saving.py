"""A fit on disk: NAME.json says what it is, NAME.safetensors holds its numbers. Nothing is pickled.

Both are written under another name and moved into place, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from probseq.errors import DataError
from probseq.io.writing import write_whole


def save_one(path: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write one safetensors file with its description inside, as JSON, so that the two are never of different times."""
    from safetensors.torch import save

    return write_whole(path, save(dict(tensors), {"description": json.dumps(description, allow_nan=False)}))


def load_one(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save_one` wrote: description and tensors.

    Raises:
        OSError, ValueError, KeyError, SafetensorError: it is no such file.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as stored:
        described = json.loads((stored.metadata() or {})["description"])
        return described, {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def save_pair(directory: Path, name: str, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write both files of a fit into a directory, made if need be; all of it or nothing.

    Args:
        directory: which may hold an older fit.
        name: of the files.
        description: of what JSON knows, without NaN and infinities.
        tensors: by name.

    Raises:
        DataError: if it cannot be written there.
    """
    from safetensors.torch import save_file

    text, numbers = f"{name}.json", f"{name}.safetensors"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists() and not directory.is_dir():
            raise NotADirectoryError(f"{directory} is a file")
        half = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            (half / text).write_text(json.dumps(description, indent=2, allow_nan=False) + "\n")
            save_file(dict(tensors), str(half / numbers))
            (half / numbers).chmod((half / text).stat().st_mode)  # safetensors writes for the owner alone
            directory.mkdir(exist_ok=True)
            for part in (numbers, text):
                os.replace(half / part, directory / part)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"A fit must be saved in a directory that can be written, got {reason.lower()} at {directory}; choose "
            "another directory."
        ) from error
    return directory


def first_line(error: Exception) -> str:
    """What an error says, in one line without a full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
