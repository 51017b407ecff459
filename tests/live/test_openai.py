"""The example that speaks OpenAI's protocol, read by OpenAI's own client and byte for byte."""

import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from live.conftest import UVICORN, served
from typed_sse import Decoder, NotAStream, ServerSentEvent, StreamFailed
from typed_sse.client import AsyncEventSource, EventSource

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMPT = "Grüße an  alle:\na b"
WORDS = ["Grüße ", "an  ", "alle:\n", "a ", "b"]
LIMIT_S = 60

# What the parrot logs when it stops can be waited for at /said.
PROGRAM = f"""
import asyncio
import logging
import sys

sys.path.insert(0, {str(EXAMPLES)!r})

import chat_completions
from typed_sse import EventSourceResponse

app = chat_completions.app
said = asyncio.Queue()


class Said(logging.Handler):
    def emit(self, record):
        if record.funcName == "parrot":
            said.put_nowait(record.getMessage())


chat_completions.logger.addHandler(Said())


@app.get("/said")
async def next_said() -> str:
    return await said.get()


"""
# Twenty thousand words would take minutes.
SLOW = f"{PROGRAM}chat_completions.INTERVAL_S = 0.01\n"
SILENT = f"""{PROGRAM}chat_completions.INTERVAL_S = 0.3
EventSourceResponse.DEFAULT_PING_INTERVAL = 0.02
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example, which takes no time for a word."""
    folder = tmp_path_factory.mktemp("openai")
    (folder / "server.py").write_text(f"{PROGRAM}chat_completions.INTERVAL_S = 0\n", "utf-8")
    with served(UVICORN, folder / "log") as (url, _):
        yield url


def sync_client(url: str, api_key: str = "sk-demo") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{url}/v1",
        api_key=api_key,
        max_retries=0,
        timeout=LIMIT_S,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


def async_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{url}/v1",
        api_key="sk-demo",
        max_retries=0,
        timeout=LIMIT_S,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


# For one test: uvicorn closes a connection behind an error without having said so, and the next
# request on it may be lost.
@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with sync_client(url) as client:
        yield client


def from_user(prompt: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]


def text(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [word for chunk in chunks for choice in chunk.choices if (word := choice.delta.content)]


def asked_by_hand(url: str, path: str, body: dict[str, object] | None = None) -> bytes:
    """Return the body of the answer as it came."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)
    headers = {"Authorization": "Bearer sk-demo", "Content-Type": "application/json"}
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


def stream_by_hand(url: str, prompt: str, **options: object) -> bytes:
    messages = from_user(prompt)
    body = {"model": "parrot", "messages": messages, "stream": True, **options}
    return asked_by_hand(url, "/v1/chat/completions", body)


def words_said(url: str) -> int:
    """Wait until the parrot has stopped, and return after how many words."""
    return int(json.loads(asked_by_hand(url, "/said")).split()[4])


def test_each_word_is_a_chunk_and_the_last_one_says_why_there_are_no_more(
    client: openai.OpenAI,
) -> None:
    chunks = list(
        client.chat.completions.create(model="parrot", messages=from_user(PROMPT), stream=True)
    )

    assert text(chunks) == WORDS
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [choice.delta.role for choice in choices] == ["assistant", *[None] * 5]
    assert [choice.finish_reason for choice in choices] == [*[None] * 5, "stop"]
    assert len(choices) == len(chunks)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


async def test_an_async_client_reads_the_same(url: str) -> None:
    async with async_client(url) as client:
        stream = await client.chat.completions.create(
            model="parrot", messages=from_user(PROMPT), stream=True
        )
        chunks = [chunk async for chunk in stream]

    assert text(chunks) == WORDS
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_usage_is_a_chunk_without_choices_for_who_asks(client: openai.OpenAI) -> None:
    *chunks, last = client.chat.completions.create(
        model="parrot",
        messages=from_user(PROMPT),
        stream=True,
        stream_options={"include_usage": True},
    )

    assert text(chunks) == WORDS
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (7, 5)
    assert last.usage.total_tokens == 12


def test_what_a_client_sends_beside_is_no_error_and_the_limit_is_kept_under_both_names(
    client: openai.OpenAI,
) -> None:
    old = client.chat.completions.create(
        model="parrot", messages=from_user(PROMPT), max_tokens=2, temperature=0.5, seed=1, user="me"
    )
    new = list(
        client.chat.completions.create(
            model="parrot", messages=from_user(PROMPT), max_completion_tokens=2, stream=True
        )
    )

    assert old.choices[0].message.content == "".join(text(new)) == "Grüße an  "
    assert old.choices[0].finish_reason == new[-1].choices[0].finish_reason == "length"


def test_without_a_stream_the_answer_comes_in_one_piece(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="parrot", messages=from_user(PROMPT))

    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", PROMPT)
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12


def test_the_helper_that_gathers_a_stream_has_the_whole_answer_at_its_end(
    client: openai.OpenAI,
) -> None:
    with client.chat.completions.stream(model="parrot", messages=from_user(PROMPT)) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion()

    assert deltas == WORDS
    assert answer.choices[0].message.content == PROMPT
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"


async def test_so_has_the_async_one(url: str) -> None:
    async with (
        async_client(url) as client,
        client.chat.completions.stream(model="parrot", messages=from_user(PROMPT)) as stream,
    ):
        answer = await stream.get_final_completion()

    assert answer.choices[0].message.content == PROMPT


@pytest.mark.parametrize("stream", [True, False])
def test_a_wrong_key_is_an_authentication_error(url: str, stream: bool) -> None:
    with sync_client(url, "wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="parrot", messages=from_user(PROMPT), stream=stream)

    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("stream", [True, False])
def test_an_unknown_model_is_not_found(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="owl", messages=from_user(PROMPT), stream=stream)

    assert caught.value.code == "model_not_found"
    assert caught.value.type == "invalid_request_error"
    assert "'owl'" in caught.value.message


@pytest.mark.parametrize("stream", [True, False])
def test_a_chat_without_messages_is_a_bad_request(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="parrot", messages=[], stream=stream)

    assert caught.value.param == "messages"


def test_an_answer_that_fails_in_the_middle_raises_behind_what_was_said(
    client: openai.OpenAI,
) -> None:
    chunks: list[ChatCompletionChunk] = []
    stream = client.chat.completions.create(
        model="parrot", messages=from_user("one two [fail] three"), stream=True
    )
    with pytest.raises(openai.APIError, match="The model has failed") as caught:
        chunks.extend(stream)

    assert text(chunks) == ["one ", "two "]
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.type == "server_error"


async def test_it_raises_in_an_async_client_too(url: str) -> None:
    chunks: list[ChatCompletionChunk] = []
    async with async_client(url) as client:
        stream = await client.chat.completions.create(
            model="parrot", messages=from_user("one two [fail] three"), stream=True
        )
        with pytest.raises(openai.APIError, match="The model has failed"):
            async for chunk in stream:
                chunks.append(chunk)

    assert text(chunks) == ["one ", "two "]


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_fails_before_its_first_word_has_a_status_of_its_own(
    client: openai.OpenAI, stream: bool
) -> None:
    with pytest.raises(openai.InternalServerError, match="The model has failed"):
        client.chat.completions.create(
            model="parrot", messages=from_user("[fail] one"), stream=stream
        )


def test_the_model_stops_when_a_reader_leaves(serve: Callable[..., tuple[str, object]]) -> None:
    url, _ = serve(SLOW)
    with sync_client(url) as client:
        with client.chat.completions.create(
            model="parrot", messages=from_user("word " * 20_000), stream=True
        ) as stream:
            chunks = [next(stream), next(stream)]

        assert text(chunks) == ["word ", "word "]
        assert words_said(url) < 20_000


async def test_the_model_stops_when_an_async_reader_leaves(
    serve: Callable[..., tuple[str, object]],
) -> None:
    url, _ = serve(SLOW)
    async with async_client(url) as client:
        async with await client.chat.completions.create(
            model="parrot", messages=from_user("word " * 20_000), stream=True
        ) as stream:
            chunks = [await anext(stream), await anext(stream)]

        assert text(chunks) == ["word ", "word "]
        assert words_said(url) < 20_000


def test_on_the_wire_there_is_data_and_nothing_else(url: str) -> None:
    body = stream_by_hand(url, "ä b", stream_options={"include_usage": True})

    head = json.loads(body.partition(b"\n")[0].removeprefix(b"data: "))
    start = (
        f'data: {{"id":"{head["id"]}","object":"chat.completion.chunk",'
        f'"created":{head["created"]},"model":"parrot","choices":['
    )
    usage = '{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}'
    assert body.decode() == (
        start + '{"index":0,"delta":{"role":"assistant","content":"ä "},"finish_reason":null}]}\n\n'
        + start + '{"index":0,"delta":{"content":"b"},"finish_reason":null}]}\n\n'
        + start + '{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        + start + f'],"usage":{usage}}}\n\n'
        + "data: [DONE]\n\n"
    )  # fmt: skip


def test_behind_an_error_in_the_middle_the_answer_is_not_said_to_be_done(url: str) -> None:
    first, error, ours = Decoder().feed(stream_by_hand(url, "one [fail]"))

    assert json.loads(first.data or "")["choices"][0]["delta"]["content"] == "one "
    assert error.event == "error"
    assert json.loads(error.data or "") == {
        "error": {
            "message": "The model has failed.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
    assert ours == ServerSentEvent(
        '{"code":"internal","message":"The stream failed on the server."}', event="stream.error"
    )


def test_keep_alives_between_the_words_disturb_nobody(
    serve: Callable[..., tuple[str, object]],
) -> None:
    url, _ = serve(SILENT)
    body = stream_by_hand(url, "one two three")
    with sync_client(url) as client:
        chunks = list(
            client.chat.completions.create(
                model="parrot", messages=from_user("one two three"), stream=True
            )
        )

    assert b"\n\n: ping\n" in body
    assert text(chunks) == ["one ", "two ", "three"]


WITH_IDS = f"""{PROGRAM}
from typed_sse import ServerSentEvent

EventSourceResponse.DEFAULT_PING_INTERVAL = 0.02
chunks = chat_completions.chunks


async def with_ids(asked, new):
    number = 0
    async for data in chunks(asked, new):
        yield ServerSentEvent(data, id=number)
        number += 1
        await asyncio.sleep(0.3)


chat_completions.chunks = with_ids
"""


def test_keep_alives_behind_an_id_disturb_nobody(serve: Callable[..., tuple[str, object]]) -> None:
    url, _ = serve(WITH_IDS)
    body = stream_by_hand(url, "one two")
    with sync_client(url) as client:
        chunks = list(
            client.chat.completions.create(
                model="parrot", messages=from_user("one two"), stream=True
            )
        )

    assert b"\n\n: ping\n" in body
    assert text(chunks) == ["one ", "two"]


# --- our own clients


def chunk_of(event: ServerSentEvent) -> ChatCompletionChunk:
    return ChatCompletionChunk.model_validate_json(event.data or "")


def asked_by_ours(url: str, prompt: str, api_key: str = "sk-demo") -> dict[str, Any]:
    return {
        "url": f"{url}/v1/chat/completions",
        "json": {"model": "parrot", "stream": True, "messages": from_user(prompt)},
        "headers": {"Authorization": f"Bearer {api_key}"},
        "decode": chunk_of,
        "sentinel": "[DONE]",
    }


async def test_our_async_client_reads_it(url: str) -> None:
    async with AsyncEventSource(**asked_by_ours(url, PROMPT)) as source:
        chunks: list[ChatCompletionChunk] = [chunk async for chunk in source]

    assert text(chunks) == WORDS
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_our_sync_client_reads_it(url: str) -> None:
    with EventSource(**asked_by_ours(url, PROMPT)) as source:
        chunks: list[ChatCompletionChunk] = list(source)

    assert text(chunks) == WORDS


def test_our_client_is_told_of_a_failure_in_the_middle(url: str) -> None:
    seen: list[str] = []
    with (
        pytest.raises(StreamFailed),
        EventSource(**asked_by_ours(url, "one [fail]"), malformed="skip") as source,
    ):
        for chunk in source:
            seen += text([chunk])

    assert seen == ["one "]


def test_our_client_is_told_that_the_key_is_wrong(url: str) -> None:
    with (
        pytest.raises(NotAStream) as refused,
        EventSource(**asked_by_ours(url, PROMPT, "sk-wrong")) as source,
    ):
        next(source)

    assert refused.value.status == 401
    assert b"invalid_api_key" in refused.value.start
