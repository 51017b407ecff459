"""Open streams and a database pool of five connections: the program of the how-to page, and
FastAPI's own way beside it."""

import http.client
import re
import sqlite3
import subprocess
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.live

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "database-sessions.md"
STREAMS = 50
POOL = 5
# SQLAlchemy gives up waiting for a connection after 30 s; nobody is to wait half as long here.
LIMIT_S = 15

FASTAPIS_OWN = """
from fastapi.sse import EventSourceResponse as FastAPIResponse


@app.get("/fastapi/{order_id}", response_class=FastAPIResponse)
async def fastapis_own(
    order_id: int, session: Annotated[AsyncSession, Depends(get_session)]
) -> AsyncIterator[str]:
    if await session.scalar(STATUS, {"id": order_id}) is None:
        raise HTTPException(404, "There is no such order.")
    while True:
        yield "open"
        await asyncio.sleep(1)
"""

Serve = Callable[..., tuple[str, subprocess.Popen[bytes]]]


@pytest.fixture
def url(serve: Serve, tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "orders.db")) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)")
        database.execute("INSERT INTO orders VALUES (1, 'shipped')")
        database.commit()
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    served, _ = serve(program[1] + FASTAPIS_OWN)
    return served


@contextmanager
def request(url: str, path: str) -> Generator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)
    with closing(connection):
        connection.request("GET", path)
        with connection.getresponse() as response:
            yield response


def first_event(response: http.client.HTTPResponse) -> bytes:
    frame = b""
    while not frame.endswith(b"\n\n"):
        line = response.readline()
        assert line, frame
        frame += line
    return frame


def test_fifty_open_streams_leave_the_pool_to_the_next_request(url: str) -> None:
    with ExitStack() as streams:
        for _ in range(STREAMS):
            stream = streams.enter_context(request(url, "/orders/1/status"))
            assert first_event(stream).endswith(b'event: status\ndata: "shipped"\n\n')
        with request(url, "/orders/1/status") as one_more:
            assert one_more.status == 200
            assert b"shipped" in first_event(one_more)
        with request(url, "/orders/2/status") as missing:
            assert missing.status == 404


def test_fastapis_own_streams_hold_the_pool_so_that_the_sixth_waits(url: str) -> None:
    with ExitStack() as streams:
        for _ in range(POOL):
            first_event(streams.enter_context(request(url, "/fastapi/1")))
        with pytest.raises(TimeoutError), request(url, "/orders/1/status"):
            pass
