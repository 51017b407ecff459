"""What a stream says of itself: its events as one JSON schema, a table of them, and a wire example.

The schema is a Pydantic model like any other, so that whoever collects models for a document names
its parts as it names everything. Knows typed events and Pydantic, nothing of OpenAPI.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, cast
from weakref import WeakValueDictionary

from pydantic import BaseModel, Field, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, to_json

from typed_sse.events import BaseEvent, EventUnion
from typed_sse.wire import ServerSentEvent

EVENTS_KEYWORD = "x-sse-events"
"""In the schema of a stream's data: `properties`, from event name to its payload's schema."""

TERMINAL_KEYWORD = "x-sse-terminal"
"""Beside a payload's schema: no event follows this one."""

_WORDS = re.compile("[A-Za-z0-9]+")

# What is said of an event beside the schema of its payload.
_OF_THE_EVENT = ("description", "deprecated", TERMINAL_KEYWORD)


class StreamData(BaseModel):
    """The base of models that stand for the data of a stream's events, one field for each event.

    As a JSON schema it is the union of the payloads, which is what a reader of `data` alone sees,
    with `x-sse-events` beside it.
    """

    events: ClassVar[EventUnion[BaseEvent[object]] | None] = None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        events = schema.pop("properties")
        for event in events.values():
            event.pop("title", None)  # made of the event's name; a model has its own
        del schema["type"]
        schema.pop("required", None)
        schema["anyOf"] = _payloads(events.values())
        schema[EVENTS_KEYWORD] = {"properties": events}  # which alone Pydantic does not sort
        return reference


def _payloads(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each payload's schema once, without what is said of the event."""
    payloads: list[dict[str, Any]] = []
    for event in events:
        payload = {key: value for key, value in event.items() if key not in _OF_THE_EVENT}
        if payload not in payloads:
            payloads.append(payload)
    return payloads


_made: WeakValueDictionary[tuple[str, str, EventUnion[BaseEvent[object]]], type[StreamData]] = (
    WeakValueDictionary()
)


def stream_data(name: str, module: str, events: EventUnion[BaseEvent[object]]) -> type[StreamData]:
    """Return the model of a stream's data, named after the function `name` of `module`.

    The same function with the same events has the same model. Others may have one of the same name;
    to tell them apart is for whoever makes a document of models.

    Raises:
        InvalidDeclaration: a payload type has no JSON schema; the message says which event and
            which field.
    """
    events.schemas()
    known = _made.get((name, module, events))
    if known is not None:
        return known
    fields: dict[str, Any] = {
        f"event_{number}": (cls.__payload_type__, _field(cls))
        for number, cls in enumerate(events.classes.values())
    }
    words = "".join(word[:1].upper() + word[1:] for word in _WORDS.findall(name))
    model = create_model(f"{words}StreamData", __base__=StreamData, __module__=module, **fields)
    model.events = events
    _made[name, module, events] = model
    return model


def _field(cls: type[BaseEvent[object]]) -> Any:
    said: dict[str, Any] = {
        "description": described(cls) or None,
        "deprecated": deprecated(cls),
        "json_schema_extra": {TERMINAL_KEYWORD: True} if cls.terminal else None,
    }
    # What is not said of the event is left to its payload.
    return Field(alias=cls.event_name, **{key: what for key, what in said.items() if what})


def described(cls: type[BaseEvent[object]]) -> str:
    """Return what an event class says of itself: its docstring."""
    return inspect.cleandoc(cls.__doc__ or "")


def deprecated(cls: type[BaseEvent[object]]) -> bool | None:
    """Return `True` for an event class that is `@deprecated`, and `None` for another."""
    return True if "__deprecated__" in cls.__dict__ else None


def table(events: EventUnion[BaseEvent[object]]) -> str:
    """Return a table of the events in Markdown: name, payload, and what is said of it."""
    schemas = events.schemas()
    rows = ["| event | data | |", "| --- | --- | --- |"]
    for name, cls in events.classes.items():
        notes = [
            "Deprecated." if deprecated(cls) else "",
            _cell(described(cls).partition("\n\n")[0]),
            "The stream ends with it." if cls.terminal else "",
        ]
        kind = _kind(schemas[name], cast("_Schemas", schemas[name].get("$defs", {})))
        row = _code(name), _cell(kind), " ".join(filter(None, notes))
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)


def wire_example(events: EventUnion[BaseEvent[object]]) -> str:
    """Return what the body of such a stream may look like, each event once."""
    frames: list[bytes] = []
    for name, schema in events.schemas().items():
        # As it is sent: infinity is null. What an application has given as an example may be
        # anything, and is not to stop it.
        data = to_json(example_of(schema), inf_nan_mode="null", fallback=str).decode()
        shown = data if len(data) <= _LONGEST else '"…"'
        frames.append(ServerSentEvent(shown, event=name).encode())
    return b"".join(frames).decode()


_PIPE = re.compile(r"(\\*)\|")


def _cell(text: str) -> str:
    """Return a text as a cell of a table: on one line, and no pipe ends it."""
    escaped = _PIPE.sub(lambda found: found[0] if len(found[1]) % 2 else f"{found[1]}\\|", text)
    return " ".join(escaped.split())


def _code(text: str) -> str:
    """Return a text as code in a cell, between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {_cell(text)} {fence}" if len(fence) > 1 else f"`{_cell(text)}`"


def _kind(schema: Any, definitions: Mapping[str, Any]) -> str:
    """Return what a payload is, in a word or a few."""
    if not isinstance(schema, Mapping):  # true, which is a schema too
        return "JSON"
    return _kind_of_keywords(cast("_Schemas", schema), definitions)


def _kind_of_keywords(schema: "_Schemas", definitions: "_Schemas") -> str:
    if "title" in schema:
        return str(schema["title"])
    if "$ref" in schema:
        name: str = schema["$ref"].rpartition("/")[2]
        return str(definitions.get(name, {}).get("title", name))
    either: list[Mapping[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or []
    if either:
        return " or ".join(dict.fromkeys(_kind(one, definitions) for one in either))
    if schema.get("items"):
        return f"array of {_kind(schema['items'], definitions)}"
    kind: str | list[str] = schema.get("type", "JSON")
    return kind if isinstance(kind, str) else " or ".join(kind)


# Characters of an example, and steps to make it.
_LONGEST = 2000
_MOST_STEPS = 500

# Of a schema that has no end: a value of it holds another one of it.
_ENDLESS: Final = object()

_Schemas = Mapping[str, Any]


def example_of(schema: _Schemas) -> object:
    """Return a value that a JSON schema takes, from its own examples and defaults where it has any.

    It is for people: what only a pattern or a format says is followed where that is easy.
    """
    walk = _Walk(cast("_Schemas", schema.get("$defs", {})))
    try:
        example = walk.example(schema, frozenset())
    except (ArithmeticError, LookupError, TypeError, ValueError):  # of a schema written by hand
        return None
    return None if example is _ENDLESS else example


class _Walk:
    """Makes one example, in a bounded number of steps: what is left out then is as if endless."""

    def __init__(self, definitions: _Schemas) -> None:
        self._definitions = definitions
        self._left = _MOST_STEPS

    def example(self, schema: Any, within: frozenset[str]) -> object:
        self._left -= 1
        if self._left < 0:
            return _ENDLESS
        if not isinstance(schema, Mapping):  # true, which is a schema too
            return None
        return self._of_keywords(cast("_Schemas", schema), within)

    def _of_keywords(self, schema: _Schemas, within: frozenset[str]) -> object:
        for keyword in ("examples", "enum"):
            if schema.get(keyword):
                return schema[keyword][0]
        for keyword in ("const", "default"):
            if keyword in schema:
                return schema[keyword]
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name in within:
                return _ENDLESS
            return self.example(self._definitions[name], within | {name})
        either = schema.get("anyOf") or schema.get("oneOf")
        if either:
            examples = (self.example(one, within) for one in either)
            return next((example for example in examples if example is not _ENDLESS), _ENDLESS)
        match schema.get("type"):
            case "object":
                return self._object(schema, within)
            case "array":
                return self._array(schema, within)
            case "string":
                return _string(schema)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: _Schemas, within: frozenset[str]) -> object:
        example: dict[str, object] = {}
        for key, value in schema.get("properties", {}).items():
            example[key] = self.example(value, within)
            if example[key] is _ENDLESS:
                if key in schema.get("required", ()):
                    return _ENDLESS
                del example[key]
        return example

    def _array(self, schema: _Schemas, within: frozenset[str]) -> object:
        fewest = schema.get("minItems", 0)
        if fewest > _MOST_STEPS:
            return _ENDLESS
        items = schema.get("prefixItems") or [schema.get("items", {})] * max(fewest, 1)
        examples = [self.example(item, within) for item in items[: schema.get("maxItems")]]
        ends = [example for example in examples if example is not _ENDLESS]
        return _ENDLESS if len(ends) < fewest else ends


def _string(schema: _Schemas) -> str:
    texts = (_STRINGS.get(schema.get("format", ""), "text"), *_TEXTS)
    pattern = schema.get("pattern", "")
    text = next((text for text in texts if _matches(pattern, text)), texts[0])
    return text.ljust(schema.get("minLength", 0), text[-1])[: schema.get("maxLength")]


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # Pydantic's patterns are Rust's
        return True


def _number(schema: _Schemas) -> float:
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    most = schema.get("maximum", schema.get("exclusiveMaximum", least))
    step = schema.get("multipleOf", 1)
    lowest, highest = -(-least // step) * step, most // step * step
    numbers = (0, lowest, lowest + step, highest, highest - step, (least + most) / 2)
    return next((number for number in numbers if _fits(number, schema)), 0)


def _fits(number: float, schema: _Schemas) -> bool:
    return bool(
        schema.get("minimum", number) <= number <= schema.get("maximum", number)
        and schema.get("exclusiveMinimum", number - 1) < number
        and schema.get("exclusiveMaximum", number + 1) > number
        and number % schema.get("multipleOf", number or 1) == 0
    )


# One of these is what most patterns are about.
_TEXTS = ("0", "a", "A", "abc", "ABC", "2026-01-31", "a-b", "A-1", "a@b.c", "0.0")

_STRINGS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1M",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "uri": "https://example.com/",
    "email": "name@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
