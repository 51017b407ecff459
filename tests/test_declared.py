import gc
import json
import math
import types
import weakref
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema
from typing_extensions import TypeAliasType, TypedDict, deprecated

from documents import misfits
from typed_sse import declared
from typed_sse.control import StreamEnd, StreamError
from typed_sse.declared import (
    StreamData,
    described,
    example_of,
    stream_data,
    table,
    wire_example,
)
from typed_sse.errors import InvalidDeclaration
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.wire import Decoder


class Step(BaseModel):
    """One step."""

    number: int
    doing: Annotated[str, Field(serialization_alias="does")] = "work"


class Progress(BaseEvent[Step]):
    """A step is done.

    There may be more.
    """


class Again(BaseEvent[Step]):
    """A step is done again."""


class Note(BaseEvent[str]):
    """A word on it."""


class Remark(BaseEvent[str]): ...


class Done(BaseEvent[None], terminal=True):
    """That was all."""


@deprecated("use Done")
class Over(BaseEvent[None]):
    """The old name of `done`."""


_OLD = Over  # pyright: ignore[reportDeprecated]
ALL = EventUnion[BaseEvent[object]](Progress | Again | Note | Remark | Done | _OLD)


def schema_of(events: EventUnion[BaseEvent[object]]) -> dict[str, Any]:
    return stream_data("follow", "somewhere", events).model_json_schema(mode="serialization")


# --- the schema


def test_the_schema_of_a_streams_data_is_the_union_of_its_payloads_each_once() -> None:
    assert schema_of(ALL)["anyOf"] == [
        {"$ref": "#/$defs/Step"},
        {"type": "string"},
        {"type": "null"},
    ]
    assert "properties" not in schema_of(ALL)
    assert "required" not in schema_of(ALL)
    assert "type" not in schema_of(ALL)


def test_what_is_said_of_an_event_stands_beside_its_payload_under_its_name() -> None:
    properties = schema_of(ALL)["x-sse-events"]["properties"]
    assert list(properties) == list(ALL.classes)
    assert properties["progress"] == {
        "$ref": "#/$defs/Step",
        "description": "A step is done.\n\nThere may be more.",
    }
    assert properties["remark"] == {"type": "string"}
    assert properties["done"] == {
        "type": "null",
        "description": "That was all.",
        "x-sse-terminal": True,
    }
    assert properties["over"]["deprecated"] is True


def test_a_payload_is_described_as_it_is_sent() -> None:
    step = schema_of(ALL)["$defs"]["Step"]
    assert list(step["properties"]) == ["number", "does"]
    assert step["description"] == "One step."


def test_the_schema_is_the_same_at_the_second_time() -> None:
    model = stream_data("follow", "somewhere", ALL)
    several: Any = types.GenericAlias(list, (model,))
    adapter = TypeAdapter[Any](several)
    assert adapter.json_schema() == adapter.json_schema()
    assert model.model_json_schema() == model.model_json_schema()


def test_no_event_follows_a_control_event() -> None:
    control = EventUnion[BaseEvent[object]](StreamError | StreamEnd)
    properties = schema_of(control)["x-sse-events"]["properties"]
    assert list(properties) == ["stream.error", "stream.end"]
    assert all(event["x-sse-terminal"] for event in properties.values())


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("follow", "FollowStreamData"),
        ("follow_all_jobs", "FollowAllJobsStreamData"),
        ("followAll", "FollowAllStreamData"),
        ("größe", "GrEStreamData"),
        ("<lambda>", "LambdaStreamData"),
        ("_", "StreamData"),
    ],
)
def test_the_model_is_named_after_the_function_in_what_a_document_can_have(
    function: str, name: str
) -> None:
    model = stream_data(function, "some.where", ALL)
    assert (model.__name__, model.__module__) == (name, "some.where")
    assert issubclass(model, StreamData)
    assert model.events == ALL


def test_the_same_function_with_the_same_events_has_the_same_model() -> None:
    model = stream_data("follow", "somewhere", ALL)
    assert stream_data("follow", "somewhere", ALL) is model
    assert stream_data("follow", "elsewhere", ALL) is not model
    assert stream_data("lead", "somewhere", ALL) is not model
    assert stream_data("follow", "somewhere", EventUnion[BaseEvent[object]](Note)) is not model


def test_a_model_that_nobody_has_any_more_is_gone() -> None:
    model = weakref.ref(stream_data("short_lived", "somewhere", ALL))
    gc.collect()
    assert model() is None


def test_a_payload_without_a_schema_is_an_error_that_names_event_and_field() -> None:
    class Caller(BaseModel):
        number: int
        calls: list[Callable[[], int]]

    class Called(BaseEvent[Caller]): ...

    with pytest.raises(InvalidDeclaration, match=r"Called: its field calls has no JSON schema"):
        stream_data("call", "somewhere", EventUnion[BaseEvent[object]](Called))


# --- the table


def rows(*events: type[BaseEvent[object]]) -> list[str]:
    union: Any = events[0]
    for event in events[1:]:
        union |= event
    head, line, *rest = table(EventUnion(union)).split("\n")
    assert (head, line) == ("| event | data | |", "| --- | --- | --- |")
    return rest


def test_a_row_tells_name_payload_and_the_first_paragraph() -> None:
    assert rows(Progress, Note, Remark) == [
        "| `progress` | Step | A step is done. |",
        "| `note` | string | A word on it. |",
        "| `remark` | string |  |",
    ]


def test_a_row_tells_what_ends_the_stream_and_what_is_on_its_way_out() -> None:
    assert rows(Done, Over) == [  # pyright: ignore[reportDeprecated]
        "| `done` | null | That was all. The stream ends with it. |",
        "| `over` | null | Deprecated. The old name of `done`. |",
    ]


class Broken(BaseEvent[int]):
    """On two
    lines, with a	tab."""


class Piped(BaseEvent[int], event="a|b"):
    r"""This | and `that|this`, \|, and a backslash \\| before."""


class Ticked(BaseEvent[int], event="a`b``c"):
    """With `code` of its own."""


def test_nothing_that_an_event_says_breaks_the_table() -> None:
    assert rows(Broken, Piped, Ticked) == [
        "| `broken` | integer | On two lines, with a tab. |",
        r"| `a\|b` | integer | This \| and `that\|this`, \|, and a backslash \\\| before. |",
        "| ``` a`b``c ``` | integer | With `code` of its own. |",
    ]


class Node(BaseModel):
    children: list["Node"]


Tree = TypeAliasType("Tree", "dict[str, Tree] | None")


class Keyed(TypedDict):
    key: int


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (int, "integer"),
        (list[int], "array of integer"),
        (list[Step], "array of Step"),
        (list[Any], "array"),
        (dict[str, int], "object"),
        (Step | str | None, "Step or string or null"),
        (Annotated[int, Field(title="Celsius")], "Celsius"),
        (Node, "Node"),
        (Tree, "Tree"),
        (Keyed, "Keyed"),
        (Any, "JSON"),
        (Annotated[Step, Field(title="a|b")], r"a\|b"),
    ],
)
def test_a_payload_is_told_in_a_few_words(payload: Any, kind: str) -> None:
    class Told(BaseEvent[payload]): ...

    assert rows(Told) == [f"| `told` | {kind} |  |"]


def test_an_event_says_what_its_docstring_says_and_not_what_its_base_says() -> None:
    class More(Progress): ...

    assert described(Progress) == "A step is done.\n\nThere may be more."
    assert described(More) == ""


def test_an_event_is_deprecated_by_itself_and_not_by_its_base() -> None:
    assert declared.deprecated(Over)  # pyright: ignore[reportDeprecated]
    assert declared.deprecated(Done) is None


# --- examples


def test_the_wire_example_has_each_event_once_with_a_payload_that_it_takes() -> None:
    decoded = Decoder().feed(wire_example(ALL).encode())
    assert [event.event for event in decoded] == list(ALL.classes)
    for event in decoded:
        assert event.data is not None
        assert not misfits({}, ALL.schemas()[event.event or ""], json.loads(event.data))
    assert decoded[0].data == '{"number":0,"does":"work"}'


def test_the_wire_example_says_what_the_models_give_as_examples() -> None:
    class Town(BaseModel):
        name: Annotated[str, Field(examples=["Köln", "Bonn"])]

    class Visited(BaseEvent[Town]): ...

    example = wire_example(EventUnion[BaseEvent[object]](Visited))
    assert example == 'event: visited\ndata: {"name":"Köln"}\n\n'


class Colour(Enum):
    RED = "red"


class Endless(BaseModel):
    itself: "Endless"


class Ring(BaseModel):
    other: "Ring | None"
    rings: list["Ring"]
    perhaps: "Ring" = Field(default_factory=lambda: Ring(other=None, rings=[]))


class Pair(BaseModel):
    both: Annotated[list["Pair"], Field(min_length=2)] | int


TYPES: list[Any] = [
    *(int, float, bool, str, None, bytes, Any, Decimal, Colour, Step, Keyed, Ring, Pair),
    *(datetime, date, time, timedelta, UUID, IPv4Address, IPv6Address),
    *(list[int], list[Step], dict[str, int], set[int], tuple[int, str], tuple[int, ...], tuple[()]),
    *(Literal[3], Literal["a", "b"], Step | None, list[Step | str]),
    Annotated[int, Field(ge=3)],
    Annotated[int, Field(gt=3)],
    Annotated[int, Field(le=-3)],
    Annotated[int, Field(lt=-3)],
    Annotated[int, Field(ge=10, le=12)],
    Annotated[int, Field(gt=10, multiple_of=7)],
    Annotated[int, Field(le=-10, multiple_of=7)],
    Annotated[float, Field(gt=0, lt=1)],
    Annotated[float, Field(ge=0.5, le=0.75)],
    Annotated[str, Field(min_length=10)],
    Annotated[str, Field(max_length=2)],
    Annotated[str, Field(pattern=r"^\d+$")],
    Annotated[str, Field(pattern="^[A-Z]{3}$")],
    Annotated[list[int], Field(min_length=3)],
    Annotated[list[int], Field(max_length=0)],
]


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_an_example_fits_its_schema(type_: Any) -> None:
    schema = TypeAdapter(type_).json_schema(mode="serialization")
    example = example_of(schema)
    assert not misfits({}, schema, example), example


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"type": "integer", "examples": [7, 8]}, 7),
        ({"type": "integer", "examples": [], "default": 5}, 5),
        ({"type": "integer", "default": None}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": None}, None),
        ({"oneOf": [{"type": "boolean"}, {"type": "string"}]}, True),
        ({"type": "string", "format": "email"}, "name@example.com"),
        ({"type": "string", "format": "unheard-of"}, "text"),
        # What no text of ours fits, or Python cannot read, is for the reader.
        ({"type": "string", "pattern": "^nothing like it$"}, "text"),
        ({"type": "string", "pattern": r"^\p{L}+$"}, "text"),
        ({"type": "number", "minimum": 2, "maximum": 1}, 0),
        ({"properties": {"a": {"type": "integer"}}, "type": "object"}, {"a": 0}),
        ({}, None),
    ],
)
def test_an_example_is_the_schemas_own_where_it_has_one(
    schema: dict[str, Any], example: object
) -> None:
    assert example_of(schema) == example


def test_an_example_of_what_holds_itself_ends() -> None:
    assert example_of(TypeAdapter(Node).json_schema()) == {"children": []}
    assert example_of(Ring.model_json_schema(mode="validation")) == {"other": None, "rings": []}
    assert example_of(Pair.model_json_schema()) == {"both": 0}
    assert example_of(Endless.model_json_schema()) is None


# --- examples that are no use stop nobody


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": True},
        {"anyOf": [True]},
        {"$ref": "https://example.com/schema"},
        {"type": "object", "examples": {"one": 1}},
        {"type": "number", "multipleOf": 0},
        {"type": "array", "items": {"type": "integer"}, "minItems": 100_000},
    ],
)
def test_a_schema_that_no_example_follows_gets_some_or_none(schema: dict[str, Any]) -> None:
    assert example_of(schema) in ([None], None)


def test_an_example_takes_a_bounded_number_of_steps() -> None:
    names = "abcdefghij"
    everything = {
        name: {
            "type": "object",
            "required": list(names),
            "properties": {
                each: {"type": "array", "items": {"$ref": f"#/$defs/{each}"}} for each in names
            },
        }
        for name in names
    }
    example = example_of({"$ref": "#/$defs/a", "$defs": everything})
    assert len(str(example)) < 20_000


NO_JSON: Any = {"examples": [{"at": datetime(2026, 1, 31)}]}


class Given(BaseModel):
    model_config = ConfigDict(json_schema_extra=NO_JSON)

    at: datetime


class Best(BaseModel):
    best: float = -math.inf


class Long(BaseModel):
    text: str = "x" * 5000


class Said(BaseEvent[Given]): ...


class Scored(BaseEvent[Best]): ...


class Told(BaseEvent[Long]): ...


class Either(BaseEvent[Annotated[int, WithJsonSchema({"type": ["integer", "null"]})]]): ...


class Anything(BaseEvent[Annotated[list[Any], WithJsonSchema({"anyOf": [True]})]]): ...


def test_an_example_is_written_as_it_would_be_sent_and_cut_where_it_is_long() -> None:
    shown = wire_example(EventUnion(Said | Scored | Told))
    assert 'event: said\ndata: {"at":"2026-01-31T00:00:00"}\n' in shown
    assert 'event: scored\ndata: {"best":null}\n' in shown
    assert 'event: told\ndata: "…"\n' in shown


def test_the_table_names_several_types_and_any() -> None:
    rows = table(EventUnion(Either | Anything))
    assert "| `either` | integer or null |" in rows
    assert "| `anything` | JSON |" in rows


class Worded(
    BaseEvent[Annotated[str, Field(description="The word.", json_schema_extra={"x-a": 1})]]
): ...


def test_what_is_not_said_of_an_event_is_left_to_its_payload() -> None:
    model = stream_data("words", __name__, EventUnion[BaseEvent[object]](Worded))
    schema = model.model_json_schema(mode="serialization")
    assert schema["x-sse-events"]["properties"]["worded"]["description"] == "The word."
    assert schema["x-sse-events"]["properties"]["worded"]["x-a"] == 1
