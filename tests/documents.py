"""What is asked of an OpenAPI document by several tests, whoever made it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, OpenAPIV32SpecValidator

from typed_sse.openapi import MEDIA_TYPE, Document, paths_of, streamed_by
from typed_sse.wire import ServerSentEvent

_VALIDATORS = {"3.1.0": OpenAPIV31SpecValidator, "3.2.0": OpenAPIV32SpecValidator}
_LOCAL = "#/"


def problems(document: Document) -> list[str]:
    """Return in what a document is not one of its version of OpenAPI."""
    validator = _VALIDATORS[document["openapi"]](document)
    return [str(error.message) for error in validator.iter_errors()]


def objects_in(node: Any) -> Iterator[dict[str, Any]]:
    """Go through all objects in a document, from the outside in."""
    inner: Iterable[Any] = ()
    if isinstance(node, dict):
        yield (found := cast("dict[str, Any]", node))
        inner = found.values()
    elif isinstance(node, list):
        inner = cast("Iterable[Any]", node)
    for one in inner:
        yield from objects_in(one)


def references(document: Document) -> set[str]:
    """Return all that a document refers to, in a `$ref` or the mapping of a discriminator."""
    found: set[str] = set()
    for node in objects_in(document):
        if isinstance(node.get("$ref"), str):
            found.add(node["$ref"])
        if isinstance(node.get("discriminator"), dict):
            found |= set(node["discriminator"].get("mapping", {}).values())
    return found


def referred(document: Document, reference: str) -> Any:
    """Return what a reference leads to; raises `KeyError` where that is nothing."""
    node: Any = document
    assert reference.startswith(_LOCAL)
    for step in reference.removeprefix(_LOCAL).split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


def misfits(document: Document, schema: Mapping[str, Any], value: Any) -> list[str]:
    """Return in what a value does not fit one of the document's schemas."""
    # As if the schema were the root of the document: its references lead to the same place.
    whole = {**schema, "components": document.get("components", {})}
    formats = Draft202012Validator.FORMAT_CHECKER
    validator = cast("Any", Draft202012Validator(whole, format_checker=formats))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def streams_of(document: Document) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Go through method, path, operation and media type object of a document's streams."""
    for path, method, operation in paths_of(document):
        stream = streamed_by(operation)
        if stream is not None:
            yield method, path, operation, stream


def status_of(operation: Mapping[str, Any]) -> int:
    """Return the status under which an operation streams."""
    [code] = [
        code
        for code, response in operation["responses"].items()
        if MEDIA_TYPE in response.get("content", {})
    ]
    return int(code)


def as_item(event: ServerSentEvent) -> dict[str, object]:
    """Return an event as the specification of OpenAPI 3.2 has it: an object of its fields."""
    fields: dict[str, object] = {"event": event.event or "message", "data": event.data}
    if event.id is not None:
        fields["id"] = event.id
    if event.retry is not None:
        fields["retry"] = event.retry
    return fields
