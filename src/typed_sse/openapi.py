"""OpenAPI documents of event streams: from the one that an application has to the other profiles.

What a tool reads differs, and no single document pleases every one; so a stream is described once,
by what `/openapi.json` says of it, and written anew for each profile. Works on documents as JSON
has them; knows nothing of who made them.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import chain, count
from typing import Any, TypeAlias, TypeGuard, cast

from typed_sse.declared import EVENTS_KEYWORD, TERMINAL_KEYWORD
from typed_sse.errors import InvalidField

Document: TypeAlias = dict[str, Any]

PROFILES = ("payload", "spec", "envelope")
"""`payload`: OpenAPI 3.1, a stream is the union of its payloads, which is what most generators and
Swagger UI read. `spec`: OpenAPI 3.2 with `itemSchema`, event by event, the way the standard has it.
`envelope`: OpenAPI 3.1, a stream is the union of objects with `event` and `data`."""

OVER_KEYWORD = "x-sse-may-be-over"
"""Of a stream that may be answered with 204. Not declared as a response in 3.1, where generators
would take it for one more kind of event."""

WIRE_KEYWORD = "x-sse-wire"
"""What the body of a stream may look like. An example in 3.2; in 3.1, an example would have to be
one of the payloads."""

MEDIA_TYPE = "text/event-stream"
_SCHEMAS = "#/components/schemas/"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_LAST_EVENT_ID = "last-event-id"


def profile_of(document: Mapping[str, Any], profile: str) -> Document:
    """Return an application's document in another profile.

    Args:
        document: what `app.openapi()` returns, OpenAPI 3.1; it is not changed.
        profile: one of `PROFILES`.

    Raises:
        InvalidField: there is no such profile.
    """
    if profile not in PROFILES:
        raise InvalidField("profile", profile, f"give one of {', '.join(PROFILES)}")
    written: Document = deepcopy(dict(document))
    if profile == "payload":
        return written
    schemas: dict[str, Any] = written.get("components", {}).get("schemas", {})
    writer = _Writer(schemas, data_is_text=profile == "spec")
    for operation in operations_of(written):
        stream = streamed_by(operation)
        if stream is not None:
            _write(operation, stream, writer, profile)
    _drop_unused(written, schemas)
    if profile == "spec":
        written["openapi"] = "3.2.0"
    return written


def _drop_unused(document: Document, schemas: dict[str, Any]) -> None:
    """Drop the data of streams, unless something refers to it still, such as a callback."""
    text = json.dumps(document, default=str)
    for name in [name for name in schemas if _says_events(schemas[name])]:
        if f'"{_SCHEMAS}{name}"' not in text:
            del schemas[name]


def _says_events(schema: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(schema, Mapping) and EVENTS_KEYWORD in schema


def operations_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Go through the operations of a document's paths, in its order."""
    for _, _, operation in paths_of(document):
        yield operation


def paths_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Go through path, method and operation of a document's paths, in its order."""
    for path, item in document.get("paths", {}).items():
        for method, operation in item.items():
            if method in _METHODS:
                yield path, method, operation


def streamed_by(operation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an operation says of its stream, its media type object; `None` if it has none."""
    for response in operation.get("responses", {}).values():
        content = response.get("content", {})
        if MEDIA_TYPE in content:
            return cast("dict[str, Any]", content[MEDIA_TYPE])
    return None


def events_of(document: Mapping[str, Any], stream: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return event name -> payload's schema of a stream that declares its events."""
    schemas = document.get("components", {}).get("schemas", {})
    return _events(schemas, stream)


def resumes(operation: Mapping[str, Any]) -> bool:
    """Whether an operation takes the id of the last event that a reader has seen."""
    return any(
        parameter.get("in") == "header" and parameter.get("name", "").lower() == _LAST_EVENT_ID
        for parameter in operation.get("parameters", ())
    )


def _events(schemas: Mapping[str, Any], stream: Mapping[str, Any]) -> dict[str, Any] | None:
    said = schemas.get(stream.get("schema", {}).get("$ref", "").removeprefix(_SCHEMAS))
    events: dict[str, Any] = said[EVENTS_KEYWORD]["properties"] if _says_events(said) else {}
    return events or None


def _write(
    operation: Mapping[str, Any], stream: dict[str, Any], writer: "_Writer", profile: str
) -> None:
    events = _events(writer.schemas, stream)
    if events is None and not stream.keys().isdisjoint(("schema", "itemSchema")):
        return  # described by hand, or by FastAPI
    item = _any_event()
    if events is not None:
        item = writer.union(_base(stream.pop("schema")), events)
    # In 3.2, a `schema` would be that of the body as a whole.
    stream["itemSchema" if profile == "spec" else "schema"] = item
    wire = stream.pop(WIRE_KEYWORD, None)
    if profile == "spec":
        if wire is not None:
            example = {"summary": "On the wire", "value": wire}
            stream["examples"] = {"wire": example, **stream.get("examples", {})}
        if stream.pop(OVER_KEYWORD, False):
            over = {"description": "The stream is over; there is nothing to come back for."}
            operation["responses"].setdefault("204", over)
    terminal = [name for name, event in (events or {}).items() if event.get(TERMINAL_KEYWORD)]
    stream["x-sse"] = {"resumable": resumes(operation), "terminal": terminal}


def _base(schema: Mapping[str, Any]) -> str:
    """Return what the names of a stream's components begin with: `ChatStream`."""
    # FastAPI adds "-Output" to the name of a model that a request has too.
    name: str = schema["$ref"].removeprefix(_SCHEMAS).removesuffix("-Output")
    before, _, after = name.rpartition("Data")
    return before + after


class _Writer:
    """Adds the components of events to a document's schemas."""

    def __init__(self, schemas: dict[str, Any], *, data_is_text: bool) -> None:
        self.schemas = schemas
        self._data_is_text = data_is_text

    def union(self, base: str, events: Mapping[str, Any]) -> Document:
        """Add the union of a stream's events, and return a reference to it."""
        mapping: dict[str, str] = {}
        for name, payload in events.items():
            mapping[name] = self._add(name, base, self._event(name, payload))
        union = {
            "title": f"{base}Event",
            "oneOf": [{"$ref": reference} for reference in mapping.values()],
            "discriminator": {"propertyName": "event", "mapping": mapping},
        }
        return {"$ref": self._named((f"{base}Event",), union)}

    def _event(self, name: str, payload: Mapping[str, Any]) -> Document:
        about = {
            key: payload[key]
            for key in ("description", "deprecated", TERMINAL_KEYWORD)
            if key in payload
        }
        schema = {key: value for key, value in payload.items() if key not in about}
        data: Document = schema
        if self._data_is_text:
            data = {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": schema,
            }
        return {
            "type": "object",
            **about,
            "required": ["event", "data"],
            "properties": {
                "event": {"type": "string", "const": name},
                "data": data,
                **_FIELDS,
            },
        }

    def _add(self, name: str, base: str, event: Document) -> str:
        short = "".join(part[:1].upper() + part[1:] for part in _words(name)) + "Event"
        return self._named((short, base + short), {"title": short} | event)

    def _named(self, names: tuple[str, ...], schema: Document) -> str:
        """Add a schema under the first name that is free, or has the same; the last is numbered."""
        numbered = (f"{names[-1]}{number}" for number in count(2))
        return _SCHEMAS + next(
            name
            for name in chain(names, numbered)
            if self.schemas.setdefault(name, schema) == schema
        )


_FIELDS: Document = {
    "id": {"type": "string"},
    "retry": {"type": "integer", "minimum": 0},
}


def _any_event() -> Document:
    return {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}, **_FIELDS},
    }


def _words(name: str) -> list[str]:
    # The names of components are ASCII.
    return "".join(
        letter if letter.isascii() and letter.isalnum() else " " for letter in name
    ).split()
