"""The client for threads: who may close it, from where, and what it leaves behind."""

import gc
import ssl
import threading
from collections.abc import Generator

import httpx2
import pytest

from answers import AT_ONCE, NEVER, STALL, URL, SyncReply, SyncScript
from typed_sse import ServerSentEvent, UsageError
from typed_sse.client import ClientState, EventSource, ReconnectPolicy
from typed_sse.reconnect import LONGEST_WAIT_S
from typed_sse.transport import Lost, Request
from typed_sse.wire import Decoder


class Asking(threading.Thread):
    """A thread that asks a source for all of its events."""

    def __init__(self, source: EventSource[ServerSentEvent]) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.got: list[str | None] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for event in self.source:
                self.got.append(event.data)
        except BaseException as error:
            self.error = error

    def ended(self) -> bool:
        self.join(30)
        return not self.is_alive()


# --- closing it


def test_closing_from_another_thread_ends_a_read_and_is_no_error() -> None:
    states: list[ClientState] = []
    reply = SyncReply(b"data: 1\n\n", STALL)
    source = EventSource(URL, client=SyncScript(reply), on_state=states.append)
    asking = Asking(source)
    assert reply.reading.wait(30)
    source.close()
    source.close()
    assert asking.ended()
    assert (asking.got, asking.error) == (["1"], None)
    assert reply.closed == 1
    assert [state.kind for state in states] == ["connecting", "open", "closed"]
    assert states[-1].reason is None


def test_closing_from_another_thread_ends_a_wait() -> None:
    waiting = threading.Event()

    def on_state(state: ClientState) -> None:
        if state.kind == "waiting":
            waiting.set()

    policy = ReconnectPolicy(base_delay_s=LONGEST_WAIT_S)
    script = SyncScript(Lost("unreachable", "refused"))
    source = EventSource(URL, client=script, policy=policy, on_state=on_state)
    asking = Asking(source)
    assert waiting.wait(30)
    source.close()
    assert asking.ended()
    assert asking.error is None


class Connecting(SyncScript):
    """Answers only when the source has been closed in the meantime."""

    def __init__(self, reply: SyncReply) -> None:
        super().__init__(reply)
        self.connecting = threading.Event()
        self.go_on = threading.Event()

    def send(self, request: Request, *, answer_within_s: float | None) -> SyncReply:
        self.connecting.set()
        assert self.go_on.wait(30)
        return super().send(request, answer_within_s=answer_within_s)


@pytest.mark.parametrize("status", [200, 204, 503])
def test_closing_from_another_thread_while_it_connects_reads_nothing(status: int) -> None:
    script = Connecting(SyncReply(STALL, status=status))
    source = EventSource(URL, client=script)
    asking = Asking(source)
    assert script.connecting.wait(30)
    source.close()
    script.go_on.set()
    assert asking.ended()
    assert (asking.got, asking.error) == ([], None)


def test_closing_from_another_thread_between_two_chunks_hands_on_no_more() -> None:
    class Closing(SyncReply):
        def chunks(self, idle_s: float | None) -> Generator[bytes, None, None]:
            yield b"data: 1\n\n"
            closer = threading.Thread(target=source.close)
            closer.start()
            closer.join(30)
            yield b"data: 2\n\n"

    source = EventSource(URL, client=SyncScript(Closing()))
    assert [event.data for event in source] == ["1"]


def test_who_asks_while_another_thread_closes_the_source_is_told_the_end() -> None:
    closing, go_on = threading.Event(), threading.Event()

    class Slow(SyncReply):
        def close(self) -> None:
            closing.set()
            assert go_on.wait(30)
            super().close()

    source = EventSource(URL, client=SyncScript(Slow(b"data: 1\n\ndata: 2\n\n", STALL)))
    assert next(source).data == "1"
    closer = threading.Thread(target=source.close)
    closer.start()
    assert closing.wait(30)
    assert list(source) == []
    go_on.set()
    closer.join(30)
    assert not closer.is_alive()


def test_closing_from_another_thread_in_a_read_hands_on_nothing_of_its_chunk() -> None:
    reply = SyncReply(b"data: 1\n\n", b"data: 2\n\ndata: 3\n\n")
    source = EventSource(URL, client=SyncScript(reply))
    closer = threading.Thread(target=source.close)
    feed = Decoder.feed

    def closed_meanwhile(decoder: Decoder, chunk: bytes) -> list[ServerSentEvent]:
        if b"2" in chunk:
            closer.start()
            closer.join(30)
        return feed(decoder, chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typed_sse.session.Decoder.feed", closed_meanwhile)
        assert [event.data for event in source] == ["1"]
    assert reply.closed == 1


def test_closing_in_the_loop_ends_it() -> None:
    reply = SyncReply(b"data: 1\n\ndata: 2\n\n", STALL)
    source = EventSource(URL, client=SyncScript(reply))
    for _ in source:
        source.close()
    assert reply.closed == 1
    assert list(source) == []


def test_closing_in_its_own_callback_ends_it_before_it_reads() -> None:
    reply = SyncReply(STALL)

    def on_state(_: ClientState) -> None:
        source.close()

    source = EventSource(URL, client=SyncScript(reply), on_state=on_state)
    assert list(source) == []
    assert (reply.closed, reply.reading.is_set()) == (1, False)


def test_a_source_that_was_closed_before_it_was_asked_sends_nothing() -> None:
    states: list[ClientState] = []
    with EventSource(URL, client=SyncScript(), on_state=states.append) as source:
        pass
    assert list(source) == []
    assert list(source.messages()) == []
    assert states == [ClientState("closed")]


def test_a_generator_of_messages_that_is_closed_leaves_the_source_open() -> None:
    reply = SyncReply(b"data: 1\n\ndata: 2\n\n")
    with EventSource(URL, client=SyncScript(reply), policy=NEVER) as source:
        messages = source.messages()
        assert next(messages).data == "1"
        messages.close()
        assert [event.data for event in source] == ["2"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, LookupError])
def test_whatever_leaves_the_block_closes_the_connection(error: type[BaseException]) -> None:
    reply = SyncReply(b"data: 1\n\n", STALL)
    with pytest.raises(error), EventSource(URL, client=SyncScript(reply)) as source:
        for _ in source:
            raise error
    assert reply.closed == 1


def test_an_interrupt_in_a_read_closes_the_connection_and_ends_the_source() -> None:
    class Interrupted(SyncReply):
        def chunks(self, idle_s: float | None) -> Generator[bytes, None, None]:
            yield b"data: 1\n\n"
            raise KeyboardInterrupt

    reply = Interrupted()
    source = EventSource(URL, client=SyncScript(reply), policy=AT_ONCE)
    assert next(source).data == "1"
    with pytest.raises(KeyboardInterrupt):
        next(source)
    assert reply.closed == 1
    assert list(source) == []


def test_two_threads_that_ask_at_once_are_refused_and_the_first_goes_on() -> None:
    reply = SyncReply(b"data: 1\n\n", STALL)
    source = EventSource(URL, client=SyncScript(reply))
    asking = Asking(source)
    assert reply.reading.wait(30)
    with pytest.raises(UsageError, match="give each its own"):
        next(source)
    assert asking.is_alive()
    source.close()
    assert asking.ended()


def test_a_source_that_is_dropped_closes_its_answer() -> None:
    reply = SyncReply(b"data: 1\n\n", STALL)
    assert next(EventSource(URL, client=SyncScript(reply))).data == "1"
    gc.collect()
    assert reply.closed == 1


# --- what it takes


def test_a_reader_that_asks_no_more_holds_the_stream_at_one_chunk() -> None:
    reply = SyncReply(endless=b"data: x\n\n" * 100)
    with EventSource(URL, client=SyncScript(reply)) as source:
        for _ in range(100):
            next(source)
        assert reply.taken == 1
        next(source)
        assert reply.taken == 2


def test_without_a_client_one_is_made_that_follows_redirects_and_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/sse":
            return httpx2.Response(302, headers={"location": "/there"})
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream"}, text="data: 1\n\n"
        )

    made: list[httpx2.Client] = []

    class Client(httpx2.Client):
        def __init__(self, *, verify: ssl.SSLContext, follow_redirects: bool) -> None:
            transport = httpx2.MockTransport(answer)
            super().__init__(verify=verify, follow_redirects=follow_redirects, transport=transport)
            made.append(self)

    monkeypatch.setattr("typed_sse.client_sync.httpx2.Client", Client)
    source = EventSource("http://test/sse", policy=AT_ONCE)
    assert next(source).data == "1"
    assert next(source).data == "1"
    assert [each.is_closed for each in made] == [False]
    source.close()
    assert [each.is_closed for each in made] == [True]
