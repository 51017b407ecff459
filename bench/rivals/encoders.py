"""Encoders: `python -m bench.rivals.encoders NAME`, asked by `bench.encode`.

All begin with the same Pydantic payload, and end with the bytes of a frame that has it as JSON, the
name `delta` and a running id. What differs:

- typed-sse validates the payload where it is wrapped, writes it by its declared type, and takes
  what does not fit that for an error.
- sse-starlette leaves JSON to the program, which here uses Pydantic's; lines end with CRLF.
- FastAPI's own is the function that its routes call once the data is text; it checks nothing.
- f-strings check nothing either, and a line end in the data would break them. `json.dumps` is there
  because programs have it whose payload is a dict; here it comes from the model.
"""

import json
import sys
from collections.abc import Callable, Mapping

from bench.alone import asked, best_of
from pydantic import BaseModel

from typed_sse import BaseEvent, Decoder

Encode = Callable[[range], list[bytes]]

ALONE = "a typed event to its frame: the encoder alone"
WRAPPED = "a payload, wrapped and encoded"
ANEW = "a payload made anew, wrapped and encoded"
TEXT = "text, wrapped and encoded"

COUNT = 2000


class Delta(BaseModel):
    """What an LLM API sends for each token, more or less."""

    id: str
    index: int
    text: str


class DeltaEvent(BaseEvent[Delta], event="delta"):
    """A delta as a typed event."""


def made() -> Delta:
    return Delta(id="chatcmpl-9f2c7d1e", index=0, text=" word")


payload = made()
text = payload.model_dump_json()


def typed_sse() -> Mapping[str, Encode]:
    from typed_sse import ServerSentEvent

    event = DeltaEvent(payload)
    return {
        ALONE: lambda ids: [event.encode(id=number) for number in ids],
        WRAPPED: lambda ids: [DeltaEvent(payload).encode(id=number) for number in ids],
        ANEW: lambda ids: [DeltaEvent(made()).encode(id=number) for number in ids],
        TEXT: lambda ids: [
            ServerSentEvent(text, event="delta", id=number).encode() for number in ids
        ],
    }


def sse_starlette() -> Mapping[str, Encode]:
    from sse_starlette import ServerSentEvent

    event = ServerSentEvent(event="delta")

    def alone(ids: range) -> list[bytes]:
        # It wraps text, so what is wrapped beforehand has to be given its text.
        frames: list[bytes] = []
        for number in ids:
            event.data, event.id = payload.model_dump_json(), str(number)
            frames.append(event.encode())
        return frames

    return {
        ALONE: alone,
        WRAPPED: lambda ids: [
            ServerSentEvent(payload.model_dump_json(), event="delta", id=str(number)).encode()
            for number in ids
        ],
        ANEW: lambda ids: [
            ServerSentEvent(made().model_dump_json(), event="delta", id=str(number)).encode()
            for number in ids
        ],
        TEXT: lambda ids: [
            ServerSentEvent(text, event="delta", id=str(number)).encode() for number in ids
        ],
    }


def fastapi() -> Mapping[str, Encode]:
    from fastapi.sse import format_sse_event as encode

    def wrapped(ids: range) -> list[bytes]:
        return [
            encode(data_str=payload.model_dump_json(), event="delta", id=str(number))
            for number in ids
        ]

    return {
        ALONE: wrapped,
        WRAPPED: wrapped,
        ANEW: lambda ids: [
            encode(data_str=made().model_dump_json(), event="delta", id=str(number))
            for number in ids
        ],
        TEXT: lambda ids: [encode(data_str=text, event="delta", id=str(number)) for number in ids],
    }


def by_hand() -> Mapping[str, Encode]:
    def wrapped(ids: range) -> list[bytes]:
        return [
            f"id: {number}\nevent: delta\ndata: {payload.model_dump_json()}\n\n".encode()
            for number in ids
        ]

    return {
        ALONE: wrapped,
        WRAPPED: wrapped,
        ANEW: lambda ids: [
            f"id: {number}\nevent: delta\ndata: {made().model_dump_json()}\n\n".encode()
            for number in ids
        ],
        TEXT: lambda ids: [
            f"id: {number}\nevent: delta\ndata: {text}\n\n".encode() for number in ids
        ],
    }


def json_by_hand() -> Mapping[str, Encode]:
    def wrapped(ids: range) -> list[bytes]:
        return [
            f"id: {number}\nevent: delta\ndata: {json.dumps(payload.model_dump())}\n\n".encode()
            for number in ids
        ]

    return {
        ALONE: wrapped,
        WRAPPED: wrapped,
        ANEW: lambda ids: [
            f"id: {number}\nevent: delta\ndata: {json.dumps(made().model_dump())}\n\n".encode()
            for number in ids
        ],
    }


ENCODERS = {
    "typed-sse": typed_sse,
    "sse-starlette": sse_starlette,
    "fastapi": fastapi,
    "by-hand": by_hand,
    "json-by-hand": json_by_hand,
}


def verify(frames: list[bytes]) -> None:
    """Raise unless the frames are of the payload, the name and the ids."""
    events = Decoder().feed(b"".join(frames))
    for number, event in enumerate(events):
        same = event.data is not None and json.loads(event.data) == payload.model_dump()
        if not same or event.event != "delta" or event.id != str(number):
            raise RuntimeError(f"not the frame of the payload: {event}")
    if len(events) != len(frames):
        raise RuntimeError(f"{len(frames)} frames have {len(events)} events")


def main(name: str) -> None:
    seconds = asked()["seconds"]
    ids = range(COUNT)
    rates: dict[str, float] = {}
    for case, encode in ENCODERS[name]().items():
        verify(encode(ids))
        rates[case] = COUNT / best_of(lambda: encode(ids), seconds)  # noqa: B023
    print(json.dumps(rates))


if __name__ == "__main__":
    main(sys.argv[1])
