"""The command line: an application's OpenAPI document, and the types of its streams.

Nothing but the product goes to standard output; what is said goes to standard error. The exit code
is 0 when all is well, 1 when `--check` finds a difference, and 2 when there is nothing to write or
no place for it. Decides nothing about documents. The only file that knows Typer and Rich.
"""

import difflib
import importlib
import json
import os
import re
import shutil
import sys
import sysconfig
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias, cast

import typer
from rich.console import Console
from rich.text import Text

from typed_sse.codegen import typescript
from typed_sse.errors import shown
from typed_sse.openapi import PROFILES, operations_of, profile_of, streamed_by

_PROFILES = {"3.2": "spec"} | {profile: profile for profile in PROFILES}
_DIFF_LINES = 40
# Control characters but tab and newline, and what turns the direction of writing around.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}

commands = typer.Typer(
    help="Describe the event streams of a FastAPI application.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_App: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="APP", help="The application, as uvicorn takes it: module:attribute."),
]
_Output: TypeAlias = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write; else standard output."),
]
_Check: TypeAlias = Annotated[
    bool,
    typer.Option("--check", help="Write nothing; exit with 1 if FILE is not what it would be."),
]
_Factory: TypeAlias = Annotated[
    bool,
    typer.Option("--factory", help="APP is a function that makes the application."),
]
_AppDir: TypeAlias = Annotated[
    Path,
    typer.Option("--app-dir", metavar="FOLDER", help="Where modules are looked for first."),
]
_Profile: TypeAlias = Annotated[
    str,
    typer.Option("--profile", metavar="NAME", help=f"One of {', '.join(_PROFILES)}."),
]


@commands.command()
def export(
    app: _App,
    profile: _Profile = "3.2",
    output: _Output = None,
    check: _Check = False,
    factory: _Factory = False,
    app_dir: _AppDir = Path(),
) -> None:
    """Write the OpenAPI document, as JSON.

    3.2, or spec: OpenAPI 3.2, with a schema for each event of a stream.
    payload: OpenAPI 3.1 as /openapi.json has it, for most generators.
    envelope: OpenAPI 3.1, with the names of events beside their data.
    """
    if profile not in _PROFILES:
        _fail(f"there is no profile {shown(profile)}; give one of {', '.join(_PROFILES)}")
    _check_options(output, check)
    document = _document_of(app, factory, app_dir)
    with _reporting(f"the document of {app} cannot be written", "", app_dir):
        written = profile_of(document, _PROFILES[profile])
        text = json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False)
    _deliver(f"{text}\n", output, check)


@commands.command()
def types(
    app: _App,
    output: _Output = None,
    check: _Check = False,
    factory: _Factory = False,
    app_dir: _AppDir = Path(),
) -> None:
    """Write one TypeScript file: the events of each stream as a union, and their payloads."""
    _check_options(output, check)
    document = _document_of(app, factory, app_dir)
    with _reporting(f"the document of {app} cannot be read", "", app_dir):
        streams = any(streamed_by(operation) for operation in operations_of(document))
        written = typescript(document)
    if not streams:
        _say(f"{app} has no streams; a stream is a path operation of an EventRouter")
    _deliver(written, output, check)


def _say(message: str, style: str = "") -> None:
    # What an application or a file says may hold what a terminal obeys.
    shown = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", message)
    # Made anew each time: a Console keeps the stream that was standard error when it was made.
    Console(stderr=True, soft_wrap=True).print(Text(shown, style))


def _fail(message: str) -> NoReturn:
    _say(message, "red")
    raise typer.Exit(2)


def _check_options(output: Path | None, check: bool) -> None:
    if check and output is None:
        _fail("--check compares with a file; say which, with -o FILE")


def _document_of(app: str, factory: bool, app_dir: Path) -> Mapping[str, Any]:
    module, _, attribute = app.partition(":")
    if not module or not attribute:
        _fail(f"{app}: give module:attribute, such as main:app")
    sys.path.insert(0, str(app_dir.resolve()))
    found: Any
    with _reporting(f"{app} cannot be imported", module, app_dir):
        found = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    if factory:
        with _reporting(f"{app} cannot be called", module, app_dir):
            found = found()
    describe = getattr(found, "openapi", None)
    if not callable(describe):
        hint = "" if factory or not callable(found) else "; if it makes one, add --factory"
        _fail(f"{app} is {_kind(found)} and no FastAPI application{hint}")
    with _reporting(f"{app} has no OpenAPI document", module, app_dir):
        document: object = describe()
    if not isinstance(document, Mapping):
        _fail(f"{app} has no OpenAPI document: its openapi() has returned {_kind(document)}")
    return cast("Mapping[str, Any]", document)


def _kind(value: object) -> str:
    cls = type(value)
    return f"of type {cls.__module__}.{cls.__qualname__}"


@contextmanager
def _reporting(what: str, module: str, app_dir: Path) -> Generator[None]:
    """Run the application's own code: say why it failed, and keep what it prints off our output."""
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
    _fail(reason)


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


def _deliver(product: str, output: Path | None, check: bool) -> None:
    # Half of a character has no UTF-8; JSON and TypeScript both read it as an escape.
    data = product.encode("utf-8", "backslashreplace")
    if output is None:
        typer.echo(data, nl=False)  # as bytes: the same on every system
        return
    try:
        if check:
            _compare(data.decode(), output)
        else:
            _write(data, output)
            _say(f"{output} is written")
    except typer.Exit:  # a RuntimeError too
        raise
    except OSError as error:
        _fail(f"{output}: {error.strerror or error}")
    except RuntimeError as error:  # links in a circle, before Python 3.13
        _fail(f"{output}: {error}")


def _compare(product: str, file: Path) -> None:
    """Exit with 1, and show the difference, unless the file has the product."""
    if not file.exists():
        _say(f"{file} does not exist; without --check, this command writes it", "red")
        raise typer.Exit(1)
    # Ends of lines are read as one: a checkout may have changed them.
    found = file.read_text(encoding="utf-8", errors="replace")
    if found == product:
        _say(f"{file} is up to date")
        return
    names = str(file), "what it would be"
    lines = [
        *difflib.unified_diff(found.split("\n"), product.split("\n"), *names, n=1, lineterm="")
    ]
    for line in lines[:_DIFF_LINES]:
        _say(line, _DIFF_STYLES.get(line[:1], ""))
    if len(lines) > _DIFF_LINES:
        _say(f"... and {len(lines) - _DIFF_LINES} lines more")
    _say(f"{file} is out of date; without --check, this command writes it anew", "red")
    raise typer.Exit(1)


def _write(data: bytes, file: Path) -> None:
    """Put data into a file, or leave the file as it was."""
    if file.exists() and not file.is_file():  # a device, or a pipe
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
