"""A limit on open streams: so many in all, so many for one key, and a clear no to the next.

An open stream costs memory and a connection for as long as its reader likes, so one reader with
many tabs, or one script, must not take all of them. Knows nothing of HTTP but who is asking.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

from starlette.requests import HTTPConnection

from typed_sse.errors import InvalidField

_LONGEST_RETRY_AFTER_S = 86_400


def client_address(connection: HTTPConnection) -> str:
    """Return the address that the connection comes from; "" where the server does not tell."""
    return connection.client.host if connection.client is not None else ""


class StreamLimit:
    """A bound on how many streams may be open at once; responses that share it share the bound.

    A response that finds it reached answers 429 with `Retry-After`, and closes its source unread.

    Args:
        total: open streams in all; no bound by default.
        per_key: open streams for one key; no bound by default.
        key: whose stream it is: by default the address of the client. Behind a proxy, and for
            users who share an address, give something better: `lambda connection:
            connection.state.user_id`.
        retry_after_s: whole seconds that the refused client is told to wait: 5 by default.

    Raises:
        InvalidField: a bound is less than 1 or no whole number, there is none, or `retry_after_s`
            is not between 1 and 86400.

    Limits: it counts the streams of one process; with four workers, four times as many are open.

    Invariants:
    1. `open` is the number of places that were taken and not given back; no key counts 0.

    Attributes:
        open: streams that are open under the limit.
    """

    def __init__(
        self,
        *,
        total: int | None = None,
        per_key: int | None = None,
        key: Callable[[HTTPConnection], str] = client_address,
        retry_after_s: int = 5,
    ) -> None:
        for field, bound in (("total", total), ("per_key", per_key)):
            if bound is not None and not _whole(bound, 1):
                raise InvalidField(field, bound, "give a whole number of streams, 1 or more")
        if total is None and per_key is None:
            raise InvalidField("total", total, "give a bound: total, per_key, or both")
        if not _whole(retry_after_s, 1) or retry_after_s > _LONGEST_RETRY_AFTER_S:
            reason = f"give whole seconds, 1 to {_LONGEST_RETRY_AFTER_S}"
            raise InvalidField("retry_after_s", retry_after_s, reason)
        self.retry_after_s = retry_after_s
        self.open = 0
        self._total = total
        self._per_key = per_key
        self._key = key
        self._open_by_key: Counter[str] = Counter()

    @contextmanager
    def place(self, connection: HTTPConnection) -> Generator[bool]:
        """Hold a place for a stream while the block runs; gives whether there was one."""
        key = "" if self._per_key is None else self._key(connection)
        if self._reached(key):
            yield False
            return
        self.open += 1
        self._open_by_key[key] += 1
        try:
            yield True
        finally:
            self.open -= 1
            self._open_by_key[key] -= 1
            if not self._open_by_key[key]:
                del self._open_by_key[key]

    def _reached(self, key: str) -> bool:
        if self._total is not None and self.open >= self._total:
            return True
        return self._per_key is not None and self._open_by_key[key] >= self._per_key


def _whole(value: object, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least
