"""A client's requests over httpx2, with its proxies, TLS, cookies, redirects and authentication.

Says of each of httpx2's errors how the connection was lost; decides nothing. The only file that
knows httpx2, beside the client's arguments.
"""

import socket
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, contextmanager
from functools import cache
from typing import Any

import httpx2

from typed_sse.errors import InvalidField, NotAStream
from typed_sse.reconnect import PUT_OFF
from typed_sse.transport import Lost, Request, shown_url

# What httpx2 reads wherever it runs; others depend on what is installed beside it.
_CODINGS = frozenset(("", "identity", "gzip", "deflate"))
_LONGEST_SAID = 200


class _Answer:
    """What is the same of an answer whether it is awaited or not."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.url = str(response.url)
        self.status = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    def _prepare(self, idle_s: float | None) -> None:
        """Set the limit of the reads to come, and refuse what cannot be read."""
        # The dict that every read looks into; a Timeout can be given only with the request.
        self._response.request.extensions["timeout"]["read"] = idle_s
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding not in _CODINGS:
            raise self._unreadable(f"its Content-Encoding is {coding[:40]!r}; ask for gzip or none")

    def _unreadable(self, reason: str) -> NotAStream:
        url, kind = shown_url(self.url), self.headers.get("content-type", "")
        return NotAStream(url, self.status, kind, b"", reason)

    @contextmanager
    def _reading(self) -> Generator[None]:
        try:
            yield
        except httpx2.DecodingError as error:
            reason = f"its body is not what its Content-Encoding says: {error}"
            raise self._unreadable(reason) from error
        except httpx2.ReadTimeout as error:
            raise Lost("idle", "nothing came for longer than the idle limit") from error
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise Lost("cut", _said(error)) from error


class _AsyncHTTPX2Answer(_Answer):
    async def chunks(self, idle_s: float | None) -> AsyncGenerator[bytes, None]:
        self._prepare(idle_s)
        with self._reading():
            async with aclosing(self._response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


class _HTTPX2Answer(_Answer):
    def chunks(self, idle_s: float | None) -> Generator[bytes, None, None]:
        self._prepare(idle_s)
        with self._reading():
            yield from self._response.iter_bytes()

    def abort(self) -> None:
        stream: Any = self._response.extensions.get("network_stream")
        connection = stream and stream.get_extra_info("socket")
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is closed already
                return

    def close(self) -> None:
        self._response.close()


@cache
def own_tls() -> ssl.SSLContext:
    """Return what a client of our own trusts: made once, since that takes a tenth of a second."""
    return httpx2.create_ssl_context()


# httpx2 would read the body of a redirect whole, however long. So redirects are followed here, to
# the request that it makes of each: it takes credentials off where that leads to another host.
class AsyncHTTPX2:
    """An `AsyncTransport` over an `httpx2.AsyncClient`, which stays the caller's to close."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def send(self, request: Request, *, answer_within_s: float | None) -> _AsyncHTTPX2Answer:
        """Send a request; see `AsyncTransport`."""
        client = self._client
        with _sending():
            built = _built(client, request, answer_within_s)
            response = await client.send(built, stream=True, follow_redirects=False)
            followed = 0
            while client.follow_redirects and (onward := response.next_request) is not None:
                await response.aclose()
                followed += 1
                with _following(client, followed, built, onward):
                    response = await client.send(
                        onward, auth=None, stream=True, follow_redirects=False
                    )
            if _is_put_off_behind(built, response):
                await response.aclose()
                raise _led_nowhere(response)
            return _AsyncHTTPX2Answer(response)


class HTTPX2:
    """A `Transport` over an `httpx2.Client`, which stays the caller's to close."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def send(self, request: Request, *, answer_within_s: float | None) -> _HTTPX2Answer:
        """Send a request; see `Transport`."""
        client = self._client
        with _sending():
            built = _built(client, request, answer_within_s)
            response = client.send(built, stream=True, follow_redirects=False)
            followed = 0
            while client.follow_redirects and (onward := response.next_request) is not None:
                response.close()
                followed += 1
                with _following(client, followed, built, onward):
                    response = client.send(onward, auth=None, stream=True, follow_redirects=False)
            if _is_put_off_behind(built, response):
                response.close()
                raise _led_nowhere(response)
            return _HTTPX2Answer(response)


# Who answers a POST by what is to be got by GET has worked on it: that this is out of reach, or
# busy, does not say that the POST may be sent again.
@contextmanager
def _following(
    client: httpx2.AsyncClient | httpx2.Client,
    followed: int,
    built: httpx2.Request,
    onward: httpx2.Request,
) -> Generator[None]:
    if followed > client.max_redirects:
        raise Lost("unanswered", "more redirects than the client follows", futile=True)
    try:
        with _sending():
            yield
    except Lost as lost:
        if onward.method == built.method:
            raise
        raise Lost("unanswered", lost.detail, futile=lost.futile) from lost.__cause__


def _is_put_off_behind(built: httpx2.Request, response: httpx2.Response) -> bool:
    return response.request.method != built.method and response.status_code in PUT_OFF


def _led_nowhere(response: httpx2.Response) -> Lost:
    url, status = shown_url(str(response.url)), response.status_code
    return Lost("unanswered", f"it was led on to {url}, which answers {status}")


def _built(
    client: httpx2.AsyncClient | httpx2.Client, request: Request, answer_within_s: float | None
) -> httpx2.Request:
    built = client.build_request(
        request.method,
        request.url,
        headers=[(name.encode("ascii"), value.encode()) for name, value in request.headers],
        content=request.body,
        timeout=httpx2.Timeout(answer_within_s),
    )
    # It offers what is installed; only what is read here is to be sent.
    offered = built.headers.get("accept-encoding", "identity").split(",")
    kept = [each for each in offered if each.partition(";")[0].strip().lower() in _CODINGS]
    built.headers["accept-encoding"] = ",".join(kept).strip() or "identity"
    return built


@contextmanager
def _sending() -> Generator[None]:
    """Turn httpx2's errors before an answer into what they say of the connection."""
    try:
        yield
    # Without the errors themselves, whose texts repeat what may be secret.
    except httpx2.InvalidURL:
        raise InvalidField("url", "…", "it cannot be read; give http://… or https://…") from None
    except (httpx2.LocalProtocolError, UnicodeEncodeError):
        reason = "a name or a value cannot be sent; look for line ends and other control characters"
        raise InvalidField("headers", "…", reason) from None
    except httpx2.PoolTimeout as error:
        detail = "the client has no connection left; raise max_connections in its httpx2.Limits"
        raise Lost("unreachable", detail) from error
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        raise Lost("unreachable", _said(error), futile=_is_futile(error)) from error
    except httpx2.UnsupportedProtocol as error:
        # Of a redirect: the client's own URL is one of http or https.
        raise Lost("unanswered", _said(error), futile=True) from error
    except httpx2.RequestError as error:
        raise Lost("unanswered", _said(error)) from error


def _said(error: Exception) -> str:
    # It may repeat what the peer has sent.
    return repr(str(error) or type(error).__name__)[1:-1][:_LONGEST_SAID]


def _is_futile(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
