"""URLs of engines: which engine a URL stands for. Knows their names, and imports the one."""

from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlsplit, urlunsplit

from typed_sse.channels.engine import DEFAULT_TIMEOUT_S, Engine
from typed_sse.errors import InvalidField

_FORMS = "memory://, sqlite:///path/to/file, redis://host, rediss://host, nats://host"


def engine_of(url: str) -> Engine:
    """Make the engine that a URL stands for; it is connected when it is started.

    `memory://`; `sqlite:///relative/path` or `sqlite:////absolute/path`; `redis://`, `rediss://`,
    `valkey://`, `unix://`; `nats://`, `tls://`. All take `?timeout_s=5`; SQLite takes
    `synchronous=full`, Redis `namespace=…`, NATS `stream=…` and `replicas=3`. Whatever else a URL
    of Redis has is for its client.

    Raises:
        InvalidField: the URL is none of these, or has an option that its engine does not have.
        ImportError: the engine's library is not installed; the message says which extra it is.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its words may be a part of a password
        reason = f"give one of {_FORMS}, and no / ? # [ ] in a password"
        raise InvalidField("url", url.partition(":")[0], reason) from None
    options = dict(parse_qsl(parts.query))
    given = options.pop("timeout_s", str(DEFAULT_TIMEOUT_S))
    try:
        timeout_s = float(given)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= 3600:
        raise InvalidField("timeout_s", given, "give seconds, above 0, at most 3600")
    match parts.scheme:
        case "memory":
            from typed_sse.channels.memory import MemoryEngine

            _nothing_left(options)
            return MemoryEngine()
        case "sqlite":
            from typed_sse.channels.sqlite import SqliteEngine

            path = unquote(parts.path.removeprefix("/"))
            if parts.netloc or not path:
                raise InvalidField(
                    "url", parts.path, "write sqlite:///relative or sqlite:////absolute"
                )
            synchronous = options.pop("synchronous", "normal")
            _nothing_left(options)
            if synchronous not in ("normal", "full"):
                raise InvalidField("synchronous", synchronous, "give normal or full")
            level: Literal["normal", "full"] = "full" if synchronous == "full" else "normal"
            return SqliteEngine(path, timeout_s=timeout_s, synchronous=level)
        case "redis" | "rediss" | "unix" | "valkey" | "valkeys":
            try:
                from typed_sse.channels.redis import RedisEngine
            except ModuleNotFoundError as error:
                raise _not_installed("redis") from error
            namespace = options.pop("namespace", "typed-sse")
            scheme = {"valkey": "redis", "valkeys": "rediss"}.get(parts.scheme, parts.scheme)
            plain = _without(parts._replace(scheme=scheme), "timeout_s", "namespace")
            return RedisEngine(plain, timeout_s=timeout_s, namespace=namespace)
        case "nats" | "tls":
            try:
                from typed_sse.channels.nats import NatsEngine
            except ModuleNotFoundError as error:
                raise _not_installed("nats") from error
            stream = options.pop("stream", "typed_sse")
            replicas = options.pop("replicas", "1")
            _nothing_left(options)
            if not replicas.isdecimal() or not 1 <= int(replicas) <= 5:
                raise InvalidField("replicas", replicas, "give 1 to 5")
            plain = urlunsplit(parts._replace(query=""))
            return NatsEngine(plain, timeout_s=timeout_s, stream=stream, replicas=int(replicas))
        case _:
            raise InvalidField("url", parts.scheme, f"give one of {_FORMS}")


def _without(parts: SplitResult, *ours: str) -> str:
    # What is not ours stays as it is written.
    options = [
        each for each in parts.query.split("&") if unquote_plus(each.partition("=")[0]) not in ours
    ]
    return urlunsplit(parts._replace(query="&".join(options)))


def _nothing_left(options: dict[str, str]) -> None:
    for name in options:  # not the value, which may be a password
        raise InvalidField(name, "...", "is no option of this engine")


def _not_installed(extra: str) -> ImportError:
    return ImportError(f"channels on {extra} need an extra: pip install 'typed-sse[{extra}]'")
