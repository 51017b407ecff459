"""What both clients say of answers that are no stream, of what went wrong, and to whom."""

import asyncio
import logging

import pytest

from answers import AT_ONCE, STALL, URL, AsyncReply, Reader, SyncReply, SyncScript
from typed_sse import NotAStream, ServerSentEvent
from typed_sse.client import AsyncEventSource, EventSource, ReconnectPolicy
from typed_sse.transport import Lost


@pytest.fixture(params=["async", "sync"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(request.param)


@pytest.mark.parametrize(
    ("status", "content_type"),
    [
        (200, "text/html"),
        (200, "application/json"),
        (200, None),
        (401, "text/event-stream"),
        (404, "application/json"),
        (500, "text/plain"),
        (301, "text/html"),
        (206, "text/event-stream"),
    ],
)
async def test_an_answer_that_is_no_stream_is_told_with_how_it_begins(
    reader: Reader, status: int, content_type: str | None
) -> None:
    reply = reader.reply(b"<b>no", status=status, content_type=content_type)
    (error,) = (await reader.read(reply)).items
    assert isinstance(error, NotAStream)
    assert (error.status, error.content_type) == (status, content_type or "")
    assert (error.url, error.start) == ("http://test/sse", b"<b>no")
    assert reply.closed == 1


async def test_of_an_endless_answer_two_kib_are_read(reader: Reader) -> None:
    reply = reader.reply(endless=b"x" * 1000, status=500)
    (error,) = (await reader.read(reply)).items
    assert isinstance(error, NotAStream)
    assert error.start == b"x" * 2048
    assert reply.taken == 3


async def test_an_answer_that_stalls_is_told_after_five_seconds(reader: Reader) -> None:
    reply = reader.reply(b"begin", STALL, status=404)
    (error,) = (await reader.read(reply)).items
    assert isinstance(error, NotAStream)
    assert error.start == b"begin"


async def test_an_answer_that_drips_is_told_after_five_seconds() -> None:
    began_s = asyncio.get_running_loop().time()
    reply = AsyncReply(*(b"x", 1.0) * 100, status=404)
    (error,) = (await Reader("async").read(reply)).items
    assert error.start == b"xxxxx"
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(5, abs=0.1)


def test_an_answer_that_drips_is_told_after_five_seconds_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("typed_sse.client_sync.time.monotonic", lambda: next(clock))
    source = EventSource(URL, client=SyncScript(SyncReply(*[b"x"] * 100, status=404)))
    with pytest.raises(NotAStream) as caught:
        next(source)
    assert 3 <= len(caught.value.start) <= 7


async def test_of_an_answer_that_cannot_be_read_the_head_is_told(reader: Reader) -> None:
    broken = [Lost("cut", "reset"), NotAStream("http://test", 404, "", b"", "its coding is br")]
    for error in broken:
        (told,) = (await reader.read(reader.reply(error, status=404))).items
        assert isinstance(told, NotAStream)
        assert (told.status, told.start) == (404, b"")


async def test_a_status_that_is_worth_another_attempt_is_told_at_the_last_one(
    reader: Reader,
) -> None:
    policy = ReconnectPolicy(base_delay_s=0, max_attempts=2)
    replies = [reader.reply(b"busy", status=503), reader.reply(b"still", status=503)]
    (error,) = (await reader.read(*replies, policy=policy)).items
    assert isinstance(error, NotAStream)
    assert error.start == b"still"


async def test_a_hostile_content_type_is_cut_and_escaped(reader: Reader) -> None:
    reply = reader.reply(b"\x1b[31m", content_type="\x1b[2J" + "x" * 100_000)
    (error,) = (await reader.read(reply)).items
    assert "\x1b" not in str(error)
    assert len(str(error)) < 500
    assert len(error.content_type) == 200


async def test_an_answer_that_fails_to_close_is_told_and_ends_the_stream(reader: Reader) -> None:
    reply = reader.reply(b"data: x\n\n", close_error=RuntimeError("cannot close"))
    event, error = (await reader.read(reply)).items
    assert event == ServerSentEvent("x")
    assert str(error) == "cannot close"


# --- what is said, and to whom


async def test_a_wait_is_logged_and_a_second_one_is_a_warning(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "typed_sse")
    losses = [Lost("unreachable", "refused"), Lost("unreachable", "refused")]
    await reader.read(*losses, reader.reply(status=204), policy=AT_ONCE)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "http://test/sse: unreachable; connecting again in 0.0 s"),
        ("WARNING", "http://test/sse: unreachable; connecting again in 0.0 s"),
    ]


async def test_what_is_secret_in_a_url_is_in_no_error_and_no_log(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    policy = ReconnectPolicy(base_delay_s=0, max_attempts=2)
    refused = reader.reply(b"no", status=403)
    said: list[str] = []
    for replies in ([Lost("unanswered", "x")] * 2, [refused]):
        error: Exception = (await reader.read(*replies, policy=policy)).items[0]
        said += [str(error), repr(error), str(vars(error))]
    text = "\n".join([*said, caplog.text, repr(AsyncEventSource(URL))])
    assert "http://test/sse" in text
    for secret in ("ann", "secret", "hidden"):
        assert secret not in text
