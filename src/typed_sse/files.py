"""A file that is written whole, or stays as it was; knows nothing of what is in it."""

import os
import shutil
from pathlib import Path


def write_whole(data: bytes, file: Path) -> None:
    """Put data into a file, or leave the file as it was.

    The file keeps its mode, and its place behind a link; a device or a pipe is written to. What is
    written outlives the end of this process, at any moment of it; not a loss of power.

    Raises:
        OSError: it cannot be written.
        RuntimeError: links in a circle, before Python 3.13.
    """
    if file.exists() and not file.is_file():
        file.write_bytes(data)
        return
    file = file.resolve()  # where a link leads, not in place of the link
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        if file.exists():
            shutil.copymode(file, beside)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
