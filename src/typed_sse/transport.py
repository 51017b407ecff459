"""What a client needs of whatever carries its requests: the seam, as two pairs of protocols.

`over_httpx2` carries them over httpx2, `typed_sse.testing` into an ASGI application of the same
process. Knows the standard library, and how a connection can be lost; no HTTP library.
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from typed_sse.reconnect import Loss


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt to get the stream.

    Attributes:
        method: in upper case.
        url: absolute, as the program gave it.
        headers: names and values; a value is sent as UTF-8.
        body: the request's body, or `None`.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


class Lost(Exception):
    """A transport has lost the connection, or could not make it.

    Attributes:
        how: at what point.
        detail: what a person would want to know of it.
        futile: whether another attempt cannot end better, as with a certificate that is not valid.
    """

    def __init__(self, how: Loss, detail: str, *, futile: bool = False) -> None:
        self.how: Loss = how
        self.detail = detail
        self.futile = futile
        super().__init__(f"{how}: {detail}")


class AsyncAnswer(Protocol):
    """The head of an answer, and its body as it comes."""

    @property
    def url(self) -> str:
        """The URL that has answered, after redirects."""
        ...

    @property
    def status(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case; several of one name are joined by commas."""
        ...

    def chunks(self, idle_s: float | None) -> AsyncGenerator[bytes, None]:
        """Return the body's bytes, without its content coding, as they come; called once.

        Raises:
            Lost: it was cut off, or nothing has come for `idle_s`.
            NotAStream: the content coding is one that cannot be read, or is not what it says.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection; more than once does no harm."""
        ...


class AsyncTransport(Protocol):
    """Sends a client's requests; many clients may share one."""

    async def send(self, request: Request, *, answer_within_s: float | None) -> AsyncAnswer:
        """Send a request, follow its redirects, and return once the answer's head is there.

        The time limit may count for each of connecting, sending and answering.

        Raises:
            Lost: it has not come to an answer.
            InvalidField: the URL or a header cannot be sent.

        Cancellation: nothing is left open.
        """
        ...


class Answer(Protocol):
    """What `AsyncAnswer` is, for threads."""

    @property
    def url(self) -> str:
        """The URL that has answered, after redirects."""
        ...

    @property
    def status(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case; several of one name are joined by commas."""
        ...

    def chunks(self, idle_s: float | None) -> Generator[bytes, None, None]:
        """Return the body's bytes, as `AsyncAnswer.chunks` does."""
        ...

    def abort(self) -> None:
        """Make a read that waits in another thread fail at once."""
        ...

    def close(self) -> None:
        """Close the connection; more than once does no harm."""
        ...


class Transport(Protocol):
    """What `AsyncTransport` is, for threads."""

    def send(self, request: Request, *, answer_within_s: float | None) -> Answer:
        """Send a request, as `AsyncTransport.send` does."""
        ...


def shown_url(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    if not parts.netloc:  # whatever it is, it may be a password
        return "the URL"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
