"""What a stream says of itself: its events as one JSON schema, a table of them, and a wire example.

The schema is a Pydantic model like any other, so that whoever collects models for a document names
its parts as it names everything. Knows typed events and Pydantic, nothing of OpenAPI.
"""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import Any, ClassVar, cast
from weakref import WeakValueDictionary

from pydantic import BaseModel, Field, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from typed_sse.events import BaseEvent, EventUnion
from typed_sse.wire import ServerSentEvent

EVENTS_KEYWORD = "x-sse-events"
"""In the schema of a stream's data: `properties`, from event name to its payload's schema."""

TERMINAL_KEYWORD = "x-sse-terminal"
"""Beside a payload's schema: no event follows this one."""

_WORDS = re.compile("[A-Za-z0-9]+")

# So deep an example follows a schema; a recursive one ends with nothing there.
_DEEPEST = 6


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
        events = schema.pop("properties", None)
        if events is not None:  # the first time
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
        payload = dict(event)
        if "$ref" in payload:
            payload = {"$ref": payload["$ref"]}
        if payload not in payloads:
            payloads.append(payload)
    return payloads


# Names in a document come from here, and two streams of one document must not share one.
_named: WeakValueDictionary[str, type[StreamData]] = WeakValueDictionary()


def stream_data(name: str, module: str, events: EventUnion[BaseEvent[object]]) -> type[StreamData]:
    """Return the model of a stream's data, named after the function `name` of `module`.

    The same function with the same events has the same model; another one that would have its name
    is named by its module too, and by a number at last.

    Raises:
        InvalidDeclaration: a payload type has no JSON schema; the message says which event and
            which field.
    """
    events.schemas()
    short = "".join(word[:1].upper() + word[1:] for word in _WORDS.findall(name)) + "StreamData"
    longer = f"{module.replace('.', '__')}__{short}"
    candidates = chain((short, longer), (f"{longer}{number}" for number in count(2)))
    chosen = next(name for name in candidates if _is_free_for(name, module, events))
    known = _named.get(chosen)
    if known is not None:
        return known
    fields: dict[str, Any] = {
        f"event_{number}": (cls.__payload_type__, _field(cls))
        for number, cls in enumerate(events.classes.values())
    }
    model = create_model(chosen, __base__=StreamData, __module__=module, **fields)
    model.events = events
    _named[chosen] = model
    return model


def _is_free_for(name: str, module: str, events: EventUnion[BaseEvent[object]]) -> bool:
    known = _named.get(name)
    return known is None or (known.__module__ == module and known.events == events)


def _field(cls: type[BaseEvent[object]]) -> Any:
    return Field(
        alias=cls.event_name,
        description=described(cls) or None,
        deprecated=deprecated(cls),
        json_schema_extra={TERMINAL_KEYWORD: True} if cls.terminal else None,
    )


def described(cls: type[BaseEvent[object]]) -> str:
    """Return what an event class says of itself: its docstring."""
    return inspect.cleandoc(cls.__doc__ or "")


def deprecated(cls: type[BaseEvent[object]]) -> bool | None:
    """Return `True` for an event class that is `@deprecated`, and `None` for another."""
    return True if "__deprecated__" in cls.__dict__ else None


def table(events: EventUnion[BaseEvent[object]]) -> str:
    """Return a table of the events in Markdown, and how they look on the wire."""
    schemas = events.schemas()
    rows = ["| event | data | |", "| --- | --- | --- |"]
    for name, cls in events.classes.items():
        notes = [
            "Deprecated." if deprecated(cls) else "",
            _cell(described(cls).partition("\n\n")[0]),
            "The stream ends with it." if cls.terminal else "",
        ]
        row = f"`{_cell(name)}`", _cell(_kind(schemas[name])), " ".join(filter(None, notes))
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)


def wire_example(events: EventUnion[BaseEvent[object]]) -> str:
    """Return what the body of such a stream may look like, each event once."""
    frames = [
        ServerSentEvent(
            json.dumps(example_of(schema), ensure_ascii=False, separators=(",", ":")), event=name
        ).encode()
        for name, schema in events.schemas().items()
    ]
    return b"".join(frames).decode()


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _kind(schema: Mapping[str, Any]) -> str:
    title = schema.get("title")
    if isinstance(title, str):
        return title
    kinds = schema.get("type", "JSON")
    return kinds if isinstance(kinds, str) else "JSON"


def example_of(schema: Mapping[str, Any]) -> object:
    """Return a value that a JSON schema takes, from its own examples and defaults where it has any.

    It is for people: formats and patterns are not followed.
    """
    return _example(schema, cast("Mapping[str, Any]", schema.get("$defs", {})), 0)


def _example(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> object:
    if depth > _DEEPEST:
        return None
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _example(definitions[name], definitions, depth + 1)
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if schema.get(keyword):
            return _example(schema[keyword][0], definitions, depth + 1)
    match schema.get("type"):
        case "object":
            return {
                key: _example(value, definitions, depth + 1)
                for key, value in schema.get("properties", {}).items()
            }
        case "array":
            items = schema.get("prefixItems") or [schema["items"]] if "items" in schema else []
            return [_example(item, definitions, depth + 1) for item in items]
        case "string":
            return _STRINGS.get(schema.get("format", ""), "text")
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case _:
            return None


_STRINGS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "uri": "https://example.com/",
    "email": "name@example.com",
}
