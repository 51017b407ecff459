"""The command line: describe an application's event streams, follow any stream, replay it.

Nothing but the product goes to standard output; what is said goes to standard error. Decides
nothing about documents, streams or recordings. The only file that knows Typer and Rich; what
`tail` and `replay` need beside them is imported by those commands alone.
"""

import json
import logging
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias

import typer
from rich.console import Console
from rich.text import Text

from typed_sse.codegen import typescript
from typed_sse.documents import difference, document_of, reporting
from typed_sse.errors import UsageError, shown
from typed_sse.escaping import escaped
from typed_sse.files import write_whole
from typed_sse.openapi import PROFILES, operations_of, profile_of, streamed_by
from typed_sse.recording import Recorder, read_recording
from typed_sse.session import Options
from typed_sse.tail import Pieces
from typed_sse.terminal import Form, Terminal

_PROFILES = {"3.2": "spec"} | {profile: profile for profile in PROFILES}
_DIFF_LINES = 40
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}
_UNUSABLE = 2
_INTERRUPTED = 130

commands = typer.Typer(
    help="Describe the event streams of an application; follow any stream, and replay it.",
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

_File: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="A recording, as tail --record writes it.")
]
_Url: TypeAlias = Annotated[str, typer.Argument(metavar="URL", help="Where the stream is.")]
_Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write one JSON object a line, for programs.")
]
_Raw: TypeAlias = Annotated[bool, typer.Option("--raw", help="Write the frames of the wire.")]
_Names: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--event", metavar="NAME", help="Show this event alone; may be repeated."),
]
_Until: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--until", metavar="NAME", help="Take this event for the stream's last; may be repeated."
    ),
]
_Count: TypeAlias = Annotated[
    int | None, typer.Option("--count", "-n", min=1, metavar="N", help="Stop after N events.")
]
_Headers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="Send it; may be repeated."),
]
_Data: TypeAlias = Annotated[
    str | None,
    typer.Option("--data", "-d", metavar="DATA", help="POST it; @FILE and @- read what is sent."),
]
_Method: TypeAlias = Annotated[
    str | None, typer.Option("--request", "-X", metavar="METHOD", help="The request's method.")
]
_LastEventId: TypeAlias = Annotated[
    str, typer.Option("--last-event-id", metavar="ID", help="Begin behind the event with this id.")
]
_Since: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--since-file", metavar="FILE", help="Begin behind the id in FILE, and keep the last there."
    ),
]
_Record: TypeAlias = Annotated[
    Path | None, typer.Option("--record", metavar="FILE", help="Write a recording, too.")
]
_Append: TypeAlias = Annotated[
    bool, typer.Option("--append", help="Write on in a recording that exists.")
]
_NoReconnect: TypeAlias = Annotated[
    bool, typer.Option("--no-reconnect", help="Stop when the connection ends.")
]
_MaxAttempts: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--max-attempts", min=1, metavar="N", help="Stop when so many connections in a row failed."
    ),
]
_IdleLimit: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--idle-limit", metavar="S", help="Take a connection for lost after S silent seconds."
    ),
]
_Host: TypeAlias = Annotated[str, typer.Option("--host", help="The address to serve on.")]
_Port: TypeAlias = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="The port; 0 for one that is free.")
]
_Speed: TypeAlias = Annotated[
    float, typer.Option("--speed", metavar="X", help="So many times as fast; 0 without waiting.")
]
_Loop: TypeAlias = Annotated[bool, typer.Option("--loop", help="Begin again at the end.")]
_Origin: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--allow-origin", metavar="ORIGIN", help="Let pages of this origin read it; * for all."
    ),
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
    with _refusing():
        document = document_of(app, factory, app_dir)
        with reporting(f"the document of {app} cannot be written", "", app_dir):
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
    with _refusing():
        document = document_of(app, factory, app_dir)
        with reporting(f"the document of {app} cannot be read", "", app_dir):
            streams = any(streamed_by(operation) for operation in operations_of(document))
            written = typescript(document)
    if not streams:
        _say(f"{app} has no streams; a stream is a path operation of an EventRouter")
    _deliver(written, output, check)


@commands.command()
def tail(
    url: _Url,
    as_json: _Json = False,
    raw: _Raw = False,
    event: _Names = None,
    until: _Until = None,
    count: _Count = None,
    header: _Headers = None,
    data: _Data = None,
    request: _Method = None,
    last_event_id: _LastEventId = "",
    since_file: _Since = None,
    record: _Record = None,
    append: _Append = False,
    no_reconnect: _NoReconnect = False,
    max_attempts: _MaxAttempts = None,
    idle_limit: _IdleLimit = None,
) -> None:
    """Show the events of a URL as they come, over as many connections as it takes.

    0: the stream is complete, --count is reached, or nobody reads.
    1: the stream has failed on the server.
    2: there is nothing that can be done.
    3: URL is no event stream.
    4: the connection is lost for good.
    130, 143: interrupted, terminated.
    """
    with _refusing(), _needing("httpx2"):
        from typed_sse.follow import body_of, follow, headers_of, id_in, policy_of, run
    if as_json and raw:
        _fail("--json and --raw write different things; give one of them")
    if append and record is None:
        _fail("--append writes on in a recording; say which, with --record FILE")
    # What the client logs is said on the screen.
    logging.getLogger("typed_sse").addHandler(logging.NullHandler())
    form = Form.JSON if as_json else Form.RAW if raw else Form.HUMAN
    with _refusing():
        kept = None if since_file is None else id_in(since_file)
        headers = headers_of(header or ())
        options = Options(
            headers=headers,
            last_event_id=last_event_id if kept is None else kept,
            terminal=until or (),
            policy=policy_of(not no_reconnect, max_attempts, idle_limit),
        )
        if request is not None:
            options["method"] = request
        if data is not None:
            body, kind = body_of(data, lambda: sys.stdin.buffer)
            options |= {"content": body, "headers": {"content-type": kind, **headers}}
        recording = nullcontext() if record is None else Recorder(record, url, append=append)
        with recording as recorder, _terminal(form) as screen:
            followed = follow(
                url,
                screen,
                options,
                names=event or (),
                count=count,
                since=since_file,
                recorder=recorder,
            )
            code = run(followed, screen.descriptor)
    raise typer.Exit(code)


@commands.command()
def replay(
    file: _File,
    host: _Host = "127.0.0.1",
    port: _Port = 8000,
    speed: _Speed = 1.0,
    loop: _Loop = False,
    allow_origin: _Origin = None,
) -> None:
    """Serve a recording as an event stream, with its timing, until it is interrupted.

    A client that comes back with the id of an event gets what was recorded behind it.
    """
    with _refusing(), _needing("uvicorn"):
        import uvicorn

        from typed_sse.replay import Replay
    with _refusing():
        recording = read_recording(file)
        app = Replay(recording, speed=speed, loop=loop, allow_origin=allow_origin)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    if recording.torn:
        _say(f"{file}: the last line was not written to its end, and is left out", "yellow")
    shown_host = f"[{host}]" if ":" in host else host
    events, seconds = len(recording.events), recording.duration_s
    where = f"http://{shown_host}:{listening.getsockname()[1]}/"
    _say(f"{events} events of {seconds:g} s at {where}; Ctrl-C ends it")
    with _refusing():
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on")).run([listening])


@contextmanager
def _terminal(form: Form) -> Generator[Terminal]:
    """Give the screen; leave it clean, however it is left."""
    out, err = Console(), Console(stderr=True)

    def render(pieces: Pieces) -> str:
        if out.color_system is None:
            return "".join(text for text, _ in pieces)
        with out.capture() as captured:
            out.print(Text.assemble(*pieces), end="", soft_wrap=True)
        return captured.get()

    screen = Terminal(
        form,
        sys.stdout.buffer,
        sys.stderr,
        say=_say,
        render=render,
        width=(lambda: out.width) if sys.stdout.isatty() else None,
        status_width=(lambda: err.width) if err.is_terminal and sys.stderr.isatty() else None,
    )
    try:
        yield screen
    finally:
        screen.close()


@contextmanager
def _needing(library: str) -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
    else:
        return
    _fail(f"this command needs {library}: pip install 'typed-sse[cli]'")


def _say(message: str, style: str = "") -> None:
    # What an application, a file or a peer says may hold what a terminal obeys. Made anew each
    # time: a Console keeps the stream that was standard error when it was made.
    Console(stderr=True, soft_wrap=True).print(Text(escaped(message), style))


def _fail(message: str) -> NoReturn:
    _say(message, "red")
    raise typer.Exit(_UNUSABLE)


@contextmanager
def _refusing() -> Generator[None]:
    """Say why a command cannot be carried out, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    except UsageError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        return
    _fail(reason)


def _check_options(output: Path | None, check: bool) -> None:
    if check and output is None:
        _fail("--check compares with a file; say which, with -o FILE")


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
            write_whole(data, output)
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
    lines = difference(product, file)
    if not lines:
        _say(f"{file} is up to date")
        return
    for line in lines[:_DIFF_LINES]:
        _say(line, _DIFF_STYLES.get(line[:1], ""))
    if len(lines) > _DIFF_LINES:
        _say(f"... and {len(lines) - _DIFF_LINES} lines more")
    _say(f"{file} is out of date; without --check, this command writes it anew", "red")
    raise typer.Exit(1)
