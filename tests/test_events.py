import copy
import dataclasses
import pickle
import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, NewType, TypeAlias, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypeAliasType, TypedDict

from typed_sse.errors import (
    InvalidDeclaration,
    InvalidField,
    InvalidPayload,
    MalformedPayload,
    UndeclaredEvent,
    UnknownEvent,
)
from typed_sse.events import BaseEvent, EventUnion, codec_of
from typed_sse.wire import Decoder, ServerSentEvent

T = TypeVar("T")


class EchoPayload(BaseModel):
    message: str


class Echo(BaseEvent[EchoPayload]): ...


class ReverseEcho(BaseEvent[EchoPayload]): ...


class HTTPStatusChanged(BaseEvent[int]): ...


class Renamed(BaseEvent[str], event="echo.v2"): ...


def received(frame: bytes) -> ServerSentEvent:
    [event] = Decoder().feed(frame)
    return event


# --- names


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Echo, "echo"),
        (ReverseEcho, "reverse_echo"),
        (HTTPStatusChanged, "http_status_changed"),
        (Renamed, "echo.v2"),
    ],
)
def test_an_event_is_named_after_its_class_unless_told_otherwise(
    cls: type[BaseEvent[object]], name: str
) -> None:
    assert cls.event_name == name


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("X", "x"),
        ("JobHTTP", "job_http"),
        ("OAuth2Token", "o_auth2_token"),
        ("V2Done", "v2_done"),
        ("already_snake", "already_snake"),
        ("Ärger", "ärger"),
    ],
)
def test_every_word_of_a_class_name_becomes_a_word_of_the_event_name(
    class_name: str, name: str
) -> None:
    cls: type[BaseEvent[int]] = types.new_class(class_name, (BaseEvent[int],))
    assert cls.event_name == name


def test_the_name_can_be_read_on_an_instance_too() -> None:
    assert Echo(EchoPayload(message="x")).event_name == "echo"
    assert Renamed("x").event_name == "echo.v2"


def test_a_subclass_of_an_event_has_a_name_of_its_own() -> None:
    class LoudEcho(Renamed): ...

    assert LoudEcho.event_name == "loud_echo"


# --- making events


def test_create_and_the_constructor_make_the_same_event() -> None:
    payload = EchoPayload(message="hello")
    assert Echo.create(payload) == Echo(payload) == Echo(data=payload)
    assert Echo.create(payload, id=7, retry=100) == Echo(payload, id="7", retry=100)


def test_events_of_two_classes_differ_even_with_the_same_payload() -> None:
    events: list[BaseEvent[EchoPayload]] = [Echo(EchoPayload(message="x"))]
    assert ReverseEcho(EchoPayload(message="x")) not in events


def test_with_id_leaves_the_event_as_it_was() -> None:
    event = Echo(EchoPayload(message="hello"), retry=5)
    assert event.with_id(3) == Echo(EchoPayload(message="hello"), id="3", retry=5)
    assert event.id is None


def test_an_event_cannot_be_changed() -> None:
    event = Renamed("x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.data = "y"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_an_event_survives_pickling_and_copying() -> None:
    event = Echo(EchoPayload(message="hello"), id=1, retry=2)
    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event) == event


def test_an_event_matches_by_class_and_by_position() -> None:
    match Echo(EchoPayload(message="hello")):
        case Echo(EchoPayload(message=message)):
            assert message == "hello"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"id": "a\nb"}, "id"),
        ({"id": "\0"}, "id"),
        ({"retry": -1}, "retry"),
        ({"retry": True}, "retry"),
    ],
)
def test_an_id_or_retry_that_the_wire_cannot_hold_is_refused(
    fields: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidField, match=f"^{field}="):
        Renamed("x", **fields)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_with_id_and_encode_refuse_an_id_that_would_forge_a_field() -> None:
    event = Renamed("x")
    with pytest.raises(InvalidField):
        event.with_id("1\ndata: forged")
    with pytest.raises(InvalidField):
        event.encode(id="1\ndata: forged")


def test_a_payload_of_another_type_is_refused_without_repeating_it() -> None:
    with pytest.raises(
        InvalidPayload, match=r"test_events\.Echo .*message: Field required"
    ) as error:
        Echo({"msg": "secret"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert "secret" not in str(error.value)
    assert error.value.event_class.endswith("Echo")


def test_several_faults_in_a_payload_are_counted() -> None:
    with pytest.raises(InvalidPayload, match=r"0: .*\(and 1 more\)"):
        Numbers(["a", "b"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


def test_a_payload_that_went_wrong_after_it_was_checked_is_refused_on_the_way_out() -> None:
    event = Echo(EchoPayload(message="x"))
    event.data.message = 123456  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InvalidPayload, match="Echo") as error:
        event.encode()
    assert "123456" not in str(error.value)
    assert "123456" in str(error.value.__cause__)


def test_what_a_class_needs_for_the_wire_is_made_once() -> None:
    assert codec_of(Echo) is codec_of(Echo)


# --- payload types and the wire


class Aliased(BaseModel):
    user_id: int = Field(alias="userId")
    when: datetime = Field(alias="at")
    secret: str = Field(default="s", exclude=True)


class AliasedEvent(BaseEvent[Aliased]): ...


class Shape(TypedDict):
    kind: Literal["circle"]
    radius: float


class Drawn(BaseEvent[Shape]): ...


@dataclass
class Point:
    x: int
    y: int


class Moved(BaseEvent[Point]): ...


class Mixin:
    """A base that is no event."""


class Numbers(Mixin, BaseEvent[list[int]]): ...


class Mixed(BaseEvent[int | str | None]): ...


Name = NewType("Name", str)


class Named(BaseEvent[Name]): ...


class Limited(BaseEvent[Annotated[int, Field(le=10)]]): ...


class Page(BaseModel, Generic[T]):
    items: list[T]


class Listed(BaseEvent[Page[T]], Generic[T]): ...


class PointsListed(Listed[Point]): ...


class Pair(BaseEvent[dict[str, list[T]]], Generic[T]): ...


class IntPair(Pair[int]): ...


class Wrapped(BaseEvent[T], Generic[T]): ...


class WrappedList(Wrapped[list[T]], Generic[T]): ...


class WrappedPoints(WrappedList[Point]): ...


class StillPoints(WrappedPoints): ...


K = TypeVar("K")
V = TypeVar("V")


class Table(BaseEvent[dict[K, V]], Generic[K, V]): ...


class Ages(Table[str, int]): ...


WHEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "json"),
    [
        (Echo(EchoPayload(message="hé\n")), '{"message":"hé\\n"}'),
        (AliasedEvent(Aliased(userId=1, at=WHEN)), '{"userId":1,"at":"2026-01-02T00:00:00Z"}'),
        (Drawn({"kind": "circle", "radius": 1.5}), '{"kind":"circle","radius":1.5}'),
        (Moved(Point(1, 2)), '{"x":1,"y":2}'),
        (Numbers([1, 2]), "[1,2]"),
        (Mixed(None), "null"),
        (Mixed("a"), '"a"'),
        (Renamed("plain"), '"plain"'),
        (Named(Name("n")), '"n"'),
        (Limited(10), "10"),
        (PointsListed(Page(items=[Point(1, 2)])), '{"items":[{"x":1,"y":2}]}'),
        (IntPair({"a": [1]}), '{"a":[1]}'),
        (WrappedPoints([Point(1, 2)]), '[{"x":1,"y":2}]'),
        (StillPoints([Point(1, 2)]), '[{"x":1,"y":2}]'),
        (Ages({"ada": 36}), '{"ada":36}'),
        (Numbers([1], id="a", retry=5), "[1]"),
    ],
)
def test_any_payload_type_goes_out_as_json_and_comes_back(
    event: BaseEvent[object], json: str
) -> None:
    on_the_wire = received(event.encode())
    assert on_the_wire.data == json
    assert on_the_wire.event == event.event_name
    assert EventUnion(type(event)).decode(on_the_wire) == event


def test_fields_that_a_subclass_of_the_payload_adds_stay_on_the_server() -> None:
    class Internal(EchoPayload):
        password: str

    assert b"hunter2" not in Echo(Internal(message="x", password="hunter2")).encode()


def test_a_frame_has_the_events_own_id_before_the_one_that_is_offered() -> None:
    assert Renamed("x").encode(id=3) == b'id: 3\nevent: echo.v2\ndata: "x"\n\n'
    assert Renamed("x", id="own").encode(id=3) == b'id: own\nevent: echo.v2\ndata: "x"\n\n'
    assert Renamed("x").encode() == b'event: echo.v2\ndata: "x"\n\n'
    assert Renamed("x", retry=9).encode(id="é") == (
        'id: é\nretry: 9\nevent: echo.v2\ndata: "x"\n\n'.encode()
    )


# --- the union

EVENTS = EventUnion(Echo | ReverseEcho | Renamed)
Alias = TypeAliasType("Alias", Echo | Renamed)


def test_a_union_maps_each_name_to_its_class_in_order() -> None:
    assert list(EVENTS.classes.items()) == [
        ("echo", Echo),
        ("reverse_echo", ReverseEcho),
        ("echo.v2", Renamed),
    ]
    with pytest.raises(TypeError):
        EVENTS.classes["x"] = Echo  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    "union",
    [
        EventUnion(Echo | Renamed),
        EventUnion(Renamed | Echo | Echo),
        EventUnion(Alias),
        EventUnion(Annotated[Echo | Renamed, "with a remark"]),
        EventUnion(Echo) | EventUnion(Renamed),
        EventUnion(Echo | Renamed) | EventUnion(Echo),
    ],
)
def test_unions_of_the_same_classes_are_equal_however_they_are_written(
    union: EventUnion[Echo | Renamed],
) -> None:
    assert union == EventUnion(Echo | Renamed)
    assert hash(union) == hash(EventUnion(Echo | Renamed))
    assert union != EVENTS
    assert union != "union"


def test_a_union_says_what_it_is_made_of() -> None:
    assert repr(EVENTS) == "EventUnion(Echo | ReverseEcho | Renamed)"


def test_a_union_has_a_schema_for_each_event_as_it_is_sent() -> None:
    schemas = EventUnion(AliasedEvent | Numbers).schemas()
    assert list(schemas) == ["aliased_event", "numbers"]
    assert schemas["numbers"] == {"items": {"type": "integer"}, "type": "array"}
    assert schemas["aliased_event"]["required"] == ["userId", "at"]


def test_a_payload_without_a_json_schema_is_an_error_where_the_schema_is_asked_for() -> None:
    with pytest.raises(InvalidDeclaration, match="NoJsonSchema: its payload has no JSON schema"):
        EventUnion(NoJsonSchema).schemas()


Call: TypeAlias = Callable[[], int]


class CallModel(BaseModel):
    fine: int
    call: Call


class CallsModel(BaseModel):
    calls: list[Call]


class NestedCallModel(BaseModel):
    inner: CallModel


class RecursiveCallModel(BaseModel):
    call: Call
    children: "list[RecursiveCallModel]"


class ComputedCallModel(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def call(self) -> Call:
        return lambda: 1


@dataclass
class CallDataclass:
    call: Call


class CallDict(TypedDict):
    call: Call


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (CallModel, "call"),
        (CallsModel, "calls"),
        (NestedCallModel, "inner.call"),
        (RecursiveCallModel, "call"),
        (ComputedCallModel, "call"),
        (CallDataclass, "call"),
        (CallDict, "call"),
        (list[CallModel], "call"),
    ],
)
def test_the_error_of_a_payload_without_a_json_schema_names_event_and_field(
    payload: type[object], field: str
) -> None:
    base: Any = BaseEvent
    cls: type[BaseEvent[object]] = types.new_class("Called", (base[payload],))
    with pytest.raises(
        InvalidDeclaration, match=rf"\.Called: its field {field} has no JSON schema"
    ):
        EventUnion(cls).schemas()


def test_two_classes_with_one_name_cannot_be_in_one_union() -> None:
    class Other(BaseEvent[int], event="echo"): ...

    with pytest.raises(InvalidDeclaration, match=r"\.Echo, .*Other: both are named 'echo'"):
        EventUnion(Echo | Other)
    with pytest.raises(InvalidDeclaration, match="both are named"):
        _ = EventUnion(Echo) | EventUnion(Other)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "", "stream.error", "stream.anything"])
def test_a_name_that_is_malformed_or_reserved_is_refused_naming_the_class(name: str) -> None:
    class Misnamed(BaseEvent[int], event=name): ...

    with pytest.raises(InvalidDeclaration, match="Misnamed") as error:
        EventUnion(Echo | Misnamed)
    assert error.value.subjects[0].endswith("Misnamed")
    with pytest.raises(InvalidDeclaration):
        Misnamed(1)


class Unserialisable:
    """Nothing that Pydantic has a schema for."""


class NoPayload(BaseEvent): ...  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument]


class NoSchema(BaseEvent[Unserialisable]): ...


class NoJsonSchema(BaseEvent[Callable[[], int]]): ...


class Late(BaseEvent["EchoPayload"]): ...


@pytest.mark.parametrize(
    "cls", [BaseEvent, NoPayload, NoSchema, Late, Wrapped, Listed, Wrapped[int]]
)
def test_a_class_without_a_payload_type_of_its_own_is_no_event(
    cls: type[BaseEvent[object]],
) -> None:
    with pytest.raises(InvalidDeclaration):
        EventUnion(cls)


def test_a_class_with_an_open_payload_type_cannot_be_instantiated() -> None:
    with pytest.raises(InvalidDeclaration, match="payload type is open"):
        Wrapped[int](1)


@pytest.mark.parametrize("annotation", [int, Echo | None, "Echo", list[Echo], ServerSentEvent])
def test_what_is_no_event_class_cannot_be_in_a_union(annotation: object) -> None:
    with pytest.raises(InvalidDeclaration, match="subclasses of BaseEvent"):
        EventUnion(annotation)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_union_encodes_its_events_and_no_others() -> None:
    assert EVENTS.encode(Renamed("x"), id=1) == Renamed("x").encode(id=1)
    assert Renamed("x") in EVENTS
    assert Numbers([1]) not in EVENTS
    with pytest.raises(UndeclaredEvent, match=r"Echo.*yielded an object of type .*Numbers"):
        EVENTS.encode(Numbers([1]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_subclass_of_a_declared_event_is_undeclared() -> None:
    class LoudEcho(Echo): ...

    loud = LoudEcho(EchoPayload(message="x"))
    assert loud not in EVENTS
    with pytest.raises(UndeclaredEvent, match="LoudEcho"):
        EVENTS.encode(loud)


# --- decoding


def test_decoding_gives_the_class_back_with_id_and_retry() -> None:
    event = EVENTS.decode(ServerSentEvent('{"message":"x"}', event="echo", id=4, retry=5))
    assert event == Echo(EchoPayload(message="x"), id="4", retry=5)
    assert type(event) is Echo


def test_an_event_without_a_name_is_a_message() -> None:
    class Message(BaseEvent[int]): ...

    assert EventUnion(Message).decode(ServerSentEvent("1")) == Message(1)


def test_a_payload_is_read_by_alias_or_by_name() -> None:
    union = EventUnion(AliasedEvent)
    expected = AliasedEvent(Aliased(userId=1, at=WHEN))
    for data in (
        '{"userId":1,"at":"2026-01-02T00:00:00Z"}',
        '{"user_id":1,"when":"2026-01-02T00:00:00Z"}',
    ):
        assert union.decode(ServerSentEvent(data, event="aliased_event")) == expected


def test_a_strict_payload_is_read_as_json_is_read() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        when: datetime

    class At(BaseEvent[Strict]): ...

    event = At(Strict(when=WHEN))
    assert EventUnion(At).decode(received(event.encode())) == event


def test_an_unknown_name_is_told_apart_with_what_is_known() -> None:
    with pytest.raises(UnknownEvent, match=r"'gone' is none of echo, reverse_echo, echo\.v2"):
        EVENTS.decode(ServerSentEvent("{}", event="gone"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "it has no data"),
        ("{", "Invalid JSON"),
        ('{"msg":"secret"}', "message: Field required"),
        ("3", "the whole value"),
    ],
)
def test_data_that_does_not_fit_is_the_peers_fault_and_not_repeated(
    data: str | None, reason: str
) -> None:
    with pytest.raises(MalformedPayload, match=reason) as error:
        EVENTS.decode(ServerSentEvent(data, event="echo"))
    assert error.value.event_name == "echo"
    assert "secret" not in str(error.value)


@given(
    st.text(),
    st.none() | st.integers(0, 10**18),
    st.none() | st.integers(min_value=0, max_value=10**9),
)
def test_encoding_then_decoding_gives_the_event(
    message: str, id: int | None, retry: int | None
) -> None:
    event = Echo(EchoPayload(message=message), id=id, retry=retry)
    assert EVENTS.decode(received(EVENTS.encode(event))) == event


def test_a_schema_that_somebody_changes_is_not_changed_for_others() -> None:
    union = EventUnion(Echo)
    union.schemas()["echo"].clear()
    assert union.schemas()["echo"]["type"] == "object"
