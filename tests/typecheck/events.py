"""What a type checker knows of events and unions."""

from typing import assert_never, assert_type

from pydantic import BaseModel

from typed_sse import BaseEvent, EventUnion, ServerSentEvent


class EchoPayload(BaseModel):
    message: str


class Echo(BaseEvent[EchoPayload]): ...


class Count(BaseEvent[int], event="count.v2"): ...


class Other(BaseEvent[str]): ...


def payloads_keep_their_type(echo: Echo, count: Count) -> None:
    assert_type(echo.data, EchoPayload)
    assert_type(echo.data.message, str)
    assert_type(count.data, int)
    assert_type(Echo.event_name, str)
    assert_type(echo.id, str | None)


def create_and_with_id_give_the_class_itself(payload: EchoPayload) -> None:
    assert_type(Echo.create(payload), Echo)
    assert_type(Echo(payload).with_id(1), Echo)


def a_payload_of_another_type_is_an_error() -> None:
    Echo(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Echo.create("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Count(data="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_union_decodes_to_its_classes(received: ServerSentEvent) -> None:
    union = EventUnion(Echo | Count)
    assert_type(union, EventUnion[Echo | Count])
    assert_type(union.decode(received), Echo | Count)
    assert_type(union | EventUnion(Other), EventUnion[Echo | Count | Other])


def a_union_encodes_its_classes_only() -> None:
    union = EventUnion(Echo | Count)
    union.encode(Count(3))
    union.encode(Other("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_union_is_made_of_events_only() -> None:
    EventUnion(int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def a_match_over_a_union_narrows(received: ServerSentEvent) -> str:
    event = EventUnion(Echo | Count).decode(received)
    match event:
        case Echo(EchoPayload(message=message)):
            return message
        case Count():
            assert_type(event.data, int)
            return str(event.data)
        case _:
            assert_never(event)


def a_match_that_forgets_a_class_is_an_error(received: ServerSentEvent) -> str:  # type: ignore[return]  # pyright: ignore[reportReturnType]
    match EventUnion(Echo | Count).decode(received):  # type: ignore[exhaustive-match]  # pyright: ignore[reportMatchNotExhaustive]
        case Echo(payload):
            return payload.message
