"""An endpoint that OpenAI's clients take for theirs: chat completions, streamed word by word.

Run it:   uvicorn --app-dir examples chat_completions:app --port 12345
Read it:  curl -N http://127.0.0.1:12345/v1/chat/completions -H 'Authorization: Bearer sk-demo' \
              --json '{"model":"parrot","stream":true,"messages":[{"role":"user","content":"Hi!"}]}'
or with their own client: OpenAI(base_url="http://127.0.0.1:12345/v1", api_key="sk-demo")

The events of such a stream have neither names nor ids, and the last one's data is no JSON. So what
is streamed are strings, each the data of one event.
"""

import asyncio
import logging
import re
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AliasChoices, BaseModel, Field

from typed_sse import BaseEvent, EventSourceResponse

MODEL, API_KEY = "parrot", "sk-demo"
INTERVAL_S = 0.05  # between two words
CODES = {401: "invalid_api_key", 404: "model_not_found"}

logger = logging.getLogger("uvicorn.error")
app = FastAPI()


class Message(BaseModel):
    role: str | None = None
    content: str | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):  # what else clients send is not looked at here
    model: str
    messages: list[Message] = Field(min_length=1)
    limit: int | None = Field(
        None, ge=1, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )
    stream: bool = False
    stream_options: StreamOptions | None = None


class Choice(BaseModel):
    index: int
    message: Message | None = None
    delta: Message | None = None
    finish_reason: Literal["stop", "length"] | None


class Completion(BaseModel):  # a whole one, or a chunk; what is not set is not sent
    id: str
    object: Literal["chat.completion", "chat.completion.chunk"]
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, int] | None = None


class Fault(BaseModel):
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None


class Error(BaseEvent[dict[str, Fault]]):
    """The answer has failed; clients look for an `error` in the data, not at the event's name."""


async def parrot(asked: ChatRequest) -> AsyncGenerator[str, None]:
    """Repeat the last message word by word; at the word `[fail]`, fail."""
    said = 0
    try:
        for word in re.findall(r"\S+\s*", asked.messages[-1].content or "")[: asked.limit]:
            if word.strip() == "[fail]":
                raise RuntimeError("the parrot was told to fail")
            yield word
            said += 1
            await asyncio.sleep(INTERVAL_S)
    finally:  # when the client has left, too: here a real model is told to stop
        logger.info("The parrot has said %d words.", said)


def end_of(asked: ChatRequest, said: int) -> tuple[Literal["stop", "length"], dict[str, int]]:
    """Return why an answer of so many words has ended, and what it has used."""
    prompt = sum(len((message.content or "").split()) for message in asked.messages)
    usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    return "length" if said == asked.limit else "stop", usage


async def chunks(asked: ChatRequest, new: Callable[..., Completion]) -> AsyncGenerator[str, None]:
    """Yield the data of each event: the words, the end, if asked for the usage, and the mark."""

    def data(*choices: Choice, **fields: object) -> str:
        chunk = new(object="chat.completion.chunk", choices=choices, **fields)
        return chunk.model_dump_json(exclude_unset=True)

    said = 0
    async with aclosing(parrot(asked)) as words:
        async for word in words:
            delta = Message(content=word) if said else Message(role="assistant", content=word)
            yield data(Choice(index=0, delta=delta, finish_reason=None))
            said += 1
    reason, usage = end_of(asked, said)
    yield data(Choice(index=0, delta=Message(), finish_reason=reason))
    if asked.stream_options and asked.stream_options.include_usage:
        yield data(usage=usage)
    yield "[DONE]"


def told(error: Exception) -> Error:
    """Say of an error what a client may know: before the answer, and in the middle of it."""
    match error:
        case HTTPException():
            fault = Fault(message=error.detail, code=CODES.get(error.status_code))
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"][1:]))
            fault = Fault(message=f"{where}: {first['msg']}", param=where)
        case _:
            fault = Fault(message="The model has failed.", type="server_error")
    return Error({"error": fault})


@app.exception_handler(RequestValidationError)
@app.exception_handler(HTTPException)
@app.exception_handler(Exception)
async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Answer with the error alone; nothing of the stream has been sent yet."""
    default = 400 if isinstance(error, RequestValidationError) else 500
    body = {"error": told(error).data["error"].model_dump()}
    return JSONResponse(body, getattr(error, "status_code", default))


async def authorised(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    if given is None or not secrets.compare_digest(given.credentials.encode(), API_KEY.encode()):
        raise HTTPException(401, "Give a valid API key as a bearer token.")


@app.post(
    "/v1/chat/completions",
    dependencies=[Depends(authorised)],
    response_model=Completion,
    response_model_exclude_unset=True,
)
async def chat_completions(asked: ChatRequest) -> Completion | Response:
    """Answer in one piece, or as a stream."""
    if asked.model != MODEL:
        raise HTTPException(404, f"There is no model {asked.model!r}; ask {MODEL!r}.")
    name, now = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
    new = partial(Completion, id=name, created=now, model=asked.model)
    if asked.stream:
        return EventSourceResponse(chunks(asked, new), on_error=told)
    words = [word async for word in parrot(asked)]
    reason, usage = end_of(asked, len(words))
    message = Message(role="assistant", content="".join(words))
    choice = Choice(index=0, message=message, finish_reason=reason)
    return new(object="chat.completion", choices=[choice], usage=usage)
