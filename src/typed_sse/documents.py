"""The OpenAPI document of an application that is named as uvicorn names it, and how two differ.

Runs the application's own code, keeps what that prints off standard output, and says where it has
failed. Knows no command line and no terminal.
"""

import difflib
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, cast

from typed_sse.errors import UsageError


def document_of(app: str, factory: bool, app_dir: Path) -> Mapping[str, Any]:
    """Import an application, and return its document; `app_dir` is looked into first.

    Raises:
        UsageError: there is none, and why.
    """
    module, _, attribute = app.partition(":")
    if not module or not attribute:
        raise UsageError(f"{app}: give module:attribute, such as main:app")
    sys.path.insert(0, str(app_dir.resolve()))
    found: Any
    with reporting(f"{app} cannot be imported", module, app_dir):
        found = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    if factory:
        with reporting(f"{app} cannot be called", module, app_dir):
            found = found()
    describe = getattr(found, "openapi", None)
    if not callable(describe):
        hint = "" if factory or not callable(found) else "; if it makes one, add --factory"
        raise UsageError(f"{app} is {_kind(found)} and no FastAPI application{hint}")
    with reporting(f"{app} has no OpenAPI document", module, app_dir):
        document: object = describe()
    if not isinstance(document, Mapping):
        kind = _kind(document)
        raise UsageError(f"{app} has no OpenAPI document: its openapi() has returned {kind}")
    return cast("Mapping[str, Any]", document)


def _kind(value: object) -> str:
    cls = type(value)
    return f"of type {cls.__module__}.{cls.__qualname__}"


@contextmanager
def reporting(what: str, module: str, app_dir: Path) -> Generator[None]:
    """Run the application's own code: say why it failed, and keep what it prints off our output.

    Raises:
        UsageError: it has failed.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        reason = f"{what}: {type(error).__name__}: {error}"
        reason += "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        if where := _where(error):
            reason += f"\n  at {where}"
        elif isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            reason += f"\n  looked for in {app_dir.resolve()} first; --app-dir names another folder"
    else:
        return
    raise UsageError(reason)


def _where(error: BaseException) -> str:
    """Return the line of the program where it happened, not the one of a library that it called."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    libraries = [Path(__file__).parent, *map(Path, set(sysconfig.get_paths().values()))]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        inside = any(Path(frame.filename).is_relative_to(library) for library in libraries)
        if not inside and not frame.filename.startswith("<frozen "):
            return f"{frame.filename}:{frame.lineno}, in {frame.name}"
    return ""


def difference(product: str, file: Path) -> list[str]:
    """Return what a file would have to change to be the product, line by line; none for nothing.

    Raises:
        OSError: the file cannot be read.
    """
    # Ends of lines are read as one: a checkout may have changed them.
    found = file.read_text(encoding="utf-8", errors="replace")
    names = str(file), "what it would be"
    return [*difflib.unified_diff(found.split("\n"), product.split("\n"), *names, n=1, lineterm="")]
