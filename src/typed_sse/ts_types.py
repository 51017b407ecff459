"""JSON schemas as TypeScript types, for what Pydantic says of payloads and FastAPI of parameters.

No text of a schema leaves the string or the comment that it is put into, and every name is an
identifier. A schema is all that its keywords say at once; what has no type in TypeScript is
`unknown`. Knows nothing of streams and documents but where a document keeps its schemas.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from typing import Any, TypeAlias, cast

SCHEMAS = "#/components/schemas/"
_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
# Control characters, ends of lines, what turns the direction of a text, halves of characters.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# Where TypeScript's reader of comments begins a tag: `@internal` would take a type out.
_TAG = re.compile(r"(?<!\S)@(?=\S)")
_WIDEST = 96

Type: TypeAlias = tuple[str, ...]
"""The members of a union, each one fit to be one; none is `never`."""

_UNKNOWN: Type = ("unknown",)
_ANY_OBJECT: Type = ("{ [key: string]: unknown }",)
_KINDS: dict[str, Type] = {
    "string": ("string",),
    "integer": ("number",),
    "number": ("number",),
    "boolean": ("boolean",),
    "null": ("null",),
}
_OF_OBJECTS = ("properties", "additionalProperties", "patternProperties", "propertyNames")
_OF_ARRAYS = ("items", "prefixItems")


class Types:
    """The types of a document's schemas, as far as they are asked for.

    Args:
        schemas: the document's, by name.
        taken: the names that something else has.

    1. A name is given once, to one thing: a schema's type keeps its name for good.
    2. What has been referred to, `declarations` has; and nothing else.
    """

    def __init__(self, schemas: Mapping[str, Any], taken: Iterable[str]) -> None:
        self._schemas = schemas
        self._taken = set(taken)
        self._names: dict[str, str] = {}
        self._to_declare: list[str] = []

    def name(self, wanted: str) -> str:
        """Take a name that nothing else has: the wanted one, as far as it is an identifier.

        It begins with a capital, as types do, and as no word of the language does.
        """
        name = re.sub(r"[^A-Za-z0-9_$]", "_", wanted)
        name = name[:1].upper() + name[1:]
        if not _NAME.fullmatch(name):
            name = f"_{name}"
        candidates = chain((name,), (f"{name}{number}" for number in count(2)))
        free = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(free)
        return free

    def of(self, schema: object) -> Type:
        """Return a schema's type; what it refers to is declared later."""
        if schema is False:
            return ()
        if not isinstance(schema, Mapping):  # True: anything
            return _UNKNOWN
        return _all_of(self._parts(cast("Mapping[str, Any]", schema)))

    def fields(self, properties: Mapping[str, Any], required: Iterable[str]) -> Iterator[str]:
        """Go through the properties of an object as lines for `block`, each with its comment.

        One is optional unless it is required, or a constant that is its own default: that is the
        tag of a union, which could not tell its members if it might be missing.
        """
        needed = set(required)
        for name, schema in properties.items():
            optional = "" if name in needed or _is_tag(schema) else "?"
            yield f"{about(schema)}{_key(name)}{optional}: {written(self.of(schema))};"

    def declarations(self) -> list[str]:
        """Return the declarations of all that has been referred to, by name."""
        declared: dict[str, str] = {}
        while self._to_declare:
            component = self._to_declare.pop()
            declared[self._names[component]] = self._declaration(component)
        return [declared[name] for name in sorted(declared)]

    def _declaration(self, component: str) -> str:
        schema = self._schemas[component]
        name = self._names[component]
        # What is made of itself, with no object or array between, says nothing.
        kind = _UNKNOWN if self._is_circular(component) else self.of(schema)
        if len(kind) == 1 and kind[0].startswith("{\n") and kind[0].endswith("}"):
            return f"{about(schema)}export interface {name} {kind[0]}\n"
        return f"{about(schema)}export type {name} = {written(kind)};\n"

    def _is_circular(self, component: str) -> bool:
        seen: set[str] = set()
        to_see = [component]
        while to_see:
            for reference in _direct_references(self._schemas.get(to_see.pop())):
                other = _component(reference)
                if other == component:
                    return True
                if other not in seen:
                    seen.add(other)
                    to_see.append(other)
        return False

    def _parts(self, schema: Mapping[str, Any]) -> Iterator[Type]:
        """Go through the types that a value has to have all at once."""
        if "$ref" in schema:
            yield self._reference(schema["$ref"])
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield _any_of(map(self.of, schema[keyword]))
        yield from map(self.of, schema.get("allOf", ()))
        if "const" in schema:
            yield (_literal(schema["const"]),)
        elif "enum" in schema:
            yield _any_of((_literal(value),) for value in schema["enum"])
        else:
            yield _any_of(self._kind(kind, schema) for kind in _kinds(schema))

    def _reference(self, reference: str) -> Type:
        component = _component(reference)
        if component not in self._schemas:
            return _UNKNOWN
        if component not in self._names:
            self._names[component] = self.name(component)
            self._to_declare.append(component)
        return (self._names[component],)

    def _kind(self, kind: str, schema: Mapping[str, Any]) -> Type:
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        return _KINDS.get(kind, _UNKNOWN)

    def _object(self, schema: Mapping[str, Any]) -> Type:
        properties = schema.get("properties")
        if not properties:
            return self._record(schema)
        fields = [*self.fields(properties, schema.get("required", ()))]
        # Any object may have more than its type says, so `true` adds nothing but missed typos.
        if schema.get("additionalProperties") not in (None, True, False, {}):
            fields.append("[key: string]: unknown;")
        return (block(fields),)

    def _record(self, schema: Mapping[str, Any]) -> Type:
        patterns = schema.get("patternProperties", {})
        others = schema.get("additionalProperties", not patterns)
        values = _any_of(map(self.of, [*patterns.values(), others]))
        keys = self._keys(schema.get("propertyNames"))
        return (f"{{ [key{keys}: {written(values, wrap=False)} }}",)

    def _keys(self, schema: object) -> str:
        """Return what a record says of its keys: ` in "a" | "b"]?` where they are known."""
        if isinstance(schema, Mapping):
            given = cast("Mapping[str, Any]", schema)
            given = self._schemas.get(_component(given.get("$ref", "")), given)
            names: list[object] = given.get("enum", [])
            if names and all(isinstance(name, str | int) for name in names):
                return f" in {' | '.join(map(_literal, names))}]?"
        return ": string]"

    def _array(self, schema: Mapping[str, Any]) -> Type:
        first = schema.get("prefixItems", ())
        most = schema.get("maxItems", math.inf)
        others = f"{_grouped(self.of(schema.get('items', True)))}[]"
        if not first and most:
            return (others,)
        least = schema.get("minItems", 0)
        items = [
            f"{_grouped(self.of(item))}{'' if place < least else '?'}"
            for place, item in enumerate(first)
        ]
        if most > len(first) and schema.get("items") is not False:
            items.append(f"...{others}")
        return (f"[{', '.join(items)}]",)


def _component(reference: str) -> str:
    return reference.removeprefix(SCHEMAS)


def _direct_references(schema: object) -> Iterator[str]:
    """Go through the references of a schema that stand for the value as a whole."""
    if not isinstance(schema, Mapping):
        return
    given = cast("Mapping[str, Any]", schema)
    if "$ref" in given:
        yield given["$ref"]
    for keyword in ("anyOf", "oneOf", "allOf"):
        for part in given.get(keyword, ()):
            yield from _direct_references(part)


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """Return the names of the types that a schema takes; they may be said by other keywords."""
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return [kinds]
    if kinds is not None:
        return list(kinds)
    if any(keyword in schema for keyword in _OF_OBJECTS):
        return ["object"]
    return ["array"] if any(keyword in schema for keyword in _OF_ARRAYS) else ["any"]


def _is_tag(schema: object) -> bool:
    """Whether it is one value that is there by default, as what tells the members of a union."""
    given: Mapping[str, Any] = cast("Any", schema) if isinstance(schema, Mapping) else {}
    return {"const", "default"} <= given.keys() and given["const"] == given["default"]


def _any_of(types: Iterable[Type]) -> Type:
    members = dict.fromkeys(chain.from_iterable(types))
    return _UNKNOWN if "unknown" in members else tuple(members)


def _all_of(types: Iterable[Type]) -> Type:
    parts = [kind for kind in dict.fromkeys(types) if kind != _UNKNOWN]
    # An index signature would let every name pass, beside types that say more.
    said = [kind for kind in parts if kind != _ANY_OBJECT] or parts
    if not said:
        return _UNKNOWN
    if len(said) == 1:
        return said[0]
    return (f"({' & '.join(map(_grouped, said))})",)


def written(kind: Type, *, wrap: bool = True) -> str:
    """Return a type as text; a long union in lines of its own, unless that is not wanted."""
    text = " | ".join(kind) or "never"
    if wrap and len(kind) > 1 and len(text) > _WIDEST:
        return "".join(f"\n  | {indented(member, 4)}" for member in kind)
    return text


def _grouped(kind: Type) -> str:
    text = written(kind, wrap=False)
    return f"({text})" if len(kind) > 1 else text


def _literal(value: object) -> str:
    """Return the type of one JSON value."""
    match value:
        case str():
            return quoted(value)
        case bool() | int() | None:
            return json.dumps(value)
        case float():
            return json.dumps(value) if math.isfinite(value) else "number"
        case list():
            return f"[{', '.join(map(_literal, cast('list[object]', value)))}]"
        case Mapping():
            items = cast("Mapping[str, object]", value).items()
            return block(f"{_key(name)}: {_literal(item)};" for name, item in items)
        case _:
            return "unknown"


def block(fields: Iterable[str]) -> str:
    """Return fields in braces, each in a line of its own."""
    lines = "".join(f"  {indented(field, 2)}\n" for field in fields)
    return f"{{\n{lines}}}" if lines else "{}"


def indented(text: str, by: int) -> str:
    """Return a text whose first line is in place already, with the others moved to the right."""
    return text.replace("\n", "\n" + " " * by)


def _key(name: str) -> str:
    return name if _NAME.fullmatch(name) else quoted(name)


def quoted(text: str) -> str:
    """Return a string literal."""
    return _escaped(json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_deprecated(schema: Mapping[str, Any]) -> bool:
    """Whether a schema or an operation says that it is deprecated."""
    return schema.get("deprecated") is True


def about(schema: object) -> str:
    """Return the comment with what a schema or a body says of itself."""
    given: Mapping[str, Any] = cast("Any", schema) if isinstance(schema, Mapping) else {}
    return comment(given.get("description", ""), deprecated=is_deprecated(given))


def comment(text: str, *, deprecated: bool = False) -> str:
    """Return a text as a comment with the end of its line; "" where there is nothing to say."""
    lines = [
        _TAG.sub(r"\\@", _escaped(line.rstrip())).replace("*/", "*\\/")
        for line in text.strip().splitlines()
    ]
    if deprecated:
        lines.append("@deprecated")
    if not lines:
        return ""
    if len(lines) == 1:
        return f"/** {lines[0]} */\n"
    return "/**\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */\n"
