"""Files out: whole or not at all. What is written first goes under another name and is then moved into place."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from probseq.errors import DataError


@contextmanager
def written_whole(path: str | Path) -> Iterator[BinaryIO]:
    """A stream to write a file through, which takes its place when the block ends well, and leaves nothing otherwise.

    Raises:
        DataError: if it cannot be written there.
    """
    place, half = Path(path), None
    try:
        if place.exists() and not place.is_file() and not place.is_dir():  # a device or a pipe: nothing to replace
            with place.open("wb") as stream:
                yield stream
            return
        place = place.resolve()
        if place.is_dir():
            raise IsADirectoryError(f"{place} is a directory")
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, half = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(half, place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask())
        os.replace(half, place)
        half = None
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        if half is not None:
            Path(half).unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write a file, so that no reader ever sees half of it; folders on the way are made.

    Raises:
        DataError: if it cannot be written there.
    """
    with written_whole(path) as stream:
        stream.write(content)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all."""
    return write_whole(path, text.encode())


def check_writable(path: str | Path, *, directory: bool = False) -> None:
    """Refuse an output that cannot be written, before the work that makes it is done.

    Args:
        path: of the file, or of the directory to be filled.
        directory: which of the two it is.

    Raises:
        DataError: saying what stands in the way.
    """
    place = Path(path)
    try:
        if directory and place.exists() and not place.is_dir():
            raise NotADirectoryError("a file is there")
        if not directory and place.is_dir():
            raise IsADirectoryError("a directory is there")
        above = place if place.exists() else next(parent for parent in place.resolve().parents if parent.exists())
        if not place.exists() and not above.is_dir():
            raise NotADirectoryError(f"{above} is a file")
        if not os.access(above, os.W_OK):
            raise PermissionError("permission denied")
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: str | Path, error: OSError) -> DataError:
    reason = (error.strerror or str(error)).lower()
    return DataError(f"the output must be written, got {reason} at {path}; choose another place.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
