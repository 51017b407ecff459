"""Typed events: a named class whose `data` is a `T`, and the closed union of such classes.

A class is bound to its event name once, where it is declared; encoding, decoding and the schema
follow from the type it declares, never from the object at hand. Knows Pydantic and the wire, knows
nothing of streams.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import (
    Any,
    ClassVar,
    ForwardRef,
    Generic,
    Protocol,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeForm, TypeIs, get_original_bases

from typed_sse.errors import (
    InvalidDeclaration,
    InvalidField,
    InvalidPayload,
    MalformedPayload,
    UndeclaredEvent,
    UnknownEvent,
)
from typed_sse.signatures import members
from typed_sse.strictly import strict_writer
from typed_sse.wire import ServerSentEvent, checked_id, checked_retry, json_frame, json_head

RESERVED_PREFIX = "stream."
"""Names under this prefix belong to typed-sse's own control events."""

_CONTROL = "typed_sse.control"

# What has fewer digits than Python takes pains with.
_SMALL = 10**18

T_co = TypeVar("T_co", covariant=True)

# Not Pydantic's to_snake: an event's name is a contract with readers, and must not change with the
# release of a library.
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class _Codec:
    """What one event class needs to reach the wire and come back."""

    head: bytes
    adapter: TypeAdapter[object]
    validate: Callable[[object], object]
    read: Callable[..., object]
    write: Callable[[object], bytes]


@dataclass(frozen=True, init=False)
class BaseEvent(Generic[T_co]):
    """An event whose name is its class and whose payload is a `T`.

    `class ReverseEcho(BaseEvent[EchoPayload])` declares the event `reverse_echo`: the class name in
    snake case. `class Echo(BaseEvent[EchoPayload], event="echo.v2")` names it otherwise. `T` is
    anything that Pydantic can serialise: models, dataclasses, TypedDicts, unions, lists, `str`.

    Events are immutable. On the wire `data` is one line of JSON, written by the declared type:
    aliases and field options apply, fields that a subclass of the payload adds stay here, and NaN
    is `null` unless the payload's own configuration says otherwise.

    Args:
        data: the payload, validated at once.
        id: the resume point, as for `ServerSentEvent`; by default the stream gives its running id.
        retry: how long the reader waits before it reconnects, in milliseconds; not sent by default.

    Attributes:
        event_name: the name on the wire, on the class and on every instance.
        terminal: whether nothing follows it: `class Done(BaseEvent[Result], terminal=True)`. Who
            describes the stream says so, so that its readers need not come back; nothing is
            enforced.

    Raises:
        InvalidPayload: `data` does not fit `T`.
        InvalidField: `id` or `retry` cannot be on the wire.
        InvalidDeclaration: the class itself cannot be an event: it has no payload type, one that
            Pydantic has no schema for, or a name that is malformed or reserved.
    """

    # Spelled out: slots=True would make the class anew, and super() would miss it on Python < 3.14.
    __slots__ = ("data", "id", "retry")

    data: T_co
    id: str | None
    retry: int | None

    event_name: ClassVar[str]
    terminal: ClassVar[bool]
    __payload_type__: ClassVar[object] = None
    __codec__: ClassVar[_Codec | None] = None
    __schema__: ClassVar[dict[str, object] | None] = None

    def __init_subclass__(
        cls, *, event: str | None = None, terminal: bool = False, **kwargs: object
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.terminal = terminal
        cls.event_name = _WORD_START.sub("_", cls.__name__).lower() if event is None else event
        cls.__payload_type__ = _payload_type(cls)
        cls.__codec__ = None

    def __init__(
        self, data: T_co, *, id: str | int | None = None, retry: int | None = None
    ) -> None:
        codec = type(self).__codec__ or _make_codec(type(self))
        try:
            valid = codec.validate(data)
        except ValidationError as error:
            raise InvalidPayload(_name_of(type(self)), summary(error)) from error
        _set_data(self, valid)
        _set_id(self, None if id is None else checked_id(id))
        _set_retry(self, None if retry is None else checked_retry(retry))

    def __reduce__(self) -> tuple[object, ...]:
        # The default way sets attributes, which the frozen class refuses.
        return _new, (type(self), self.data, self.id, self.retry)

    @classmethod
    def create(
        cls,
        payload: T_co,  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        *,
        id: str | int | None = None,
        retry: int | None = None,
    ) -> Self:
        """Make an event from its payload; the constructor under the name that reads as a verb."""
        # A covariant parameter is as sound here as it is in __init__: both make a new object.
        return cls(payload, id=id, retry=retry)

    def with_id(self, id: str | int) -> Self:
        """Return this event with another `id`.

        Raises:
            InvalidField: `id` cannot be on the wire.
        """
        return _new(type(self), self.data, checked_id(id), self.retry)

    def encode(self, *, id: str | int | None = None) -> bytes:
        """Return the event's frame.

        Args:
            id: the id to send where the event has none of its own; none by default.

        Raises:
            InvalidPayload: the payload cannot be written as its type: it was changed since it was
                checked, or the type takes what JSON does not.
            InvalidField: `id` cannot be on the wire.
        """
        codec = type(self).__codec__ or _make_codec(type(self))
        try:
            data = codec.write(self.data)
        except PydanticSerializationError as error:
            # Its text repeats the payload, which does not belong in a message.
            reason = "it cannot be written as that type; the cause says where"
            raise InvalidPayload(_name_of(type(self)), reason) from error
        own = self.id
        if own is None and id is not None:
            # The running id of a stream needs no check, and no way through text.
            small = type(id) is int and 0 <= id < _SMALL
            return json_frame(codec.head, data, id if small else checked_id(id), self.retry)
        return json_frame(codec.head, data, own, self.retry)


# The slots themselves, past the frozen class: a third cheaper than object.__setattr__.
_set_data, _set_id, _set_retry = (BaseEvent.__dict__[name].__set__ for name in BaseEvent.__slots__)

E_co = TypeVar("E_co", bound=BaseEvent[object], covariant=True)
F = TypeVar("F", bound=BaseEvent[object])


class EventUnion(Generic[E_co]):
    """A closed set of event classes: `EventUnion(Echo | ReverseEcho)`.

    Args:
        events: an event class, a union of them, or an alias of either.

    Attributes:
        classes: event name -> class, in the order of the declaration; read-only.

    Raises:
        InvalidDeclaration: something in it is no event class, two classes have one name, or a name
            is malformed or under the reserved prefix `stream.`; the message names the classes.
    """

    classes: Mapping[str, type[E_co]]

    def __init__(self, events: TypeForm[E_co]) -> None:
        classes: dict[str, type[BaseEvent[object]]] = {}
        for cls in _classes_in(events):
            codec_of(cls)
            other = classes.setdefault(cls.event_name, cls)
            if other is not cls:
                reason = f"both are named {cls.event_name!r}; rename one, or give it event='…'"
                raise InvalidDeclaration((_name_of(other), _name_of(cls)), reason)
        self.classes = cast("Mapping[str, type[E_co]]", MappingProxyType(classes))
        self._members = frozenset(classes.values())

    def __or__(self, other: "EventUnion[F]") -> "EventUnion[E_co | F]":
        """Return the union of both; raises `InvalidDeclaration` where two names collide."""
        members: object = Union[(*self.classes.values(), *other.classes.values())]
        return EventUnion(cast("TypeForm[E_co | F]", members))

    def __contains__(self, event: object) -> bool:
        """Whether `event` is an instance of one of the classes, and not of a subclass."""
        return type(event) in self._members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventUnion) and self._members == other._members

    def __hash__(self) -> int:
        return hash(self._members)

    def __repr__(self) -> str:
        return f"EventUnion({' | '.join(cls.__name__ for cls in self.classes.values())})"

    def check(self, event: object) -> None:
        """Raise `UndeclaredEvent` unless `event` is an instance of one of the classes.

        An instance of a subclass is undeclared too: it has a name of its own on the wire.
        """
        if type(event) not in self._members:
            raise UndeclaredEvent(_name_of(type(event)), map(_name_of, self.classes.values()))

    def encode(
        self,
        event: E_co,  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        *,
        id: str | int | None = None,
    ) -> bytes:
        """Return the frame of one of the union's events.

        Args:
            event: the event.
            id: the id to send where the event has none of its own; none by default.

        Raises:
            UndeclaredEvent: the event's class is not in the union.
            InvalidPayload: the payload cannot be written as its type.
            InvalidField: `id` cannot be on the wire.
        """
        # `check` makes the covariant parameter safe: a wider view of the union still refuses.
        self.check(event)
        return event.encode(id=id)

    def decode(self, received: ServerSentEvent) -> E_co:
        """Turn a received event back into the class that its name declares.

        Name and JSON payload are taken in one validation; a payload's fields are read by alias or
        by name. An event without a name is `message`.

        Raises:
            UnknownEvent: the name is not in the union.
            MalformedPayload: the data is missing, is no JSON, or does not fit the payload type.
        """
        name = received.event or "message"
        cls = self.classes.get(name)
        if cls is None:
            raise UnknownEvent(name, self.classes, received)
        if received.data is None:
            raise MalformedPayload(name, "it has no data", received)
        try:
            data = codec_of(cls).read(received.data, by_alias=True, by_name=True)
        except ValidationError as error:
            raise MalformedPayload(name, summary(error), received) from error
        return _new(cls, data, received.id, received.retry)

    def schemas(self) -> dict[str, dict[str, object]]:
        """Return event name -> JSON schema of the payload as it is sent (2020-12, by alias).

        Raises:
            InvalidDeclaration: a payload type has no JSON schema; the message names the class, and
                the field of the payload.
        """
        return {name: deepcopy(_schema_of(cls)) for name, cls in self.classes.items()}


def _schema_of(cls: type[BaseEvent[object]]) -> dict[str, object]:
    # Once for a class: it takes a millisecond or more, and a route asks several times.
    known = cls.__dict__.get("__schema__")
    if known is not None:
        return cast("dict[str, object]", known)
    try:
        schema = codec_of(cls).adapter.json_schema(
            mode="serialization", schema_generator=_NamingFields
        )
    except PydanticUserError as error:
        fields = ".".join(reversed(getattr(error, "__notes__", ())))
        where = f"its field {fields}" if fields else "its payload"
        reason = f"{where} has no JSON schema: {error.message}"
        raise InvalidDeclaration((_name_of(cls),), reason) from error
    cls.__schema__ = schema
    return schema


class _NamingFields(GenerateJsonSchema):
    """Makes JSON schemas, and notes with an error in which fields it was, the innermost first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._names: dict[int, str] = {}

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        if schema["type"] in ("model-fields", "typed-dict"):
            self._names |= {id(field): name for name, field in schema["fields"].items()}
        elif schema["type"] == "dataclass-args":
            self._names |= {id(field): field["name"] for field in schema["fields"]}
        computed: Iterable[Any] = schema.get("computed_fields", ())
        self._names |= {id(field): field["property_name"] for field in computed}
        try:
            return super().generate_inner(schema)
        except PydanticUserError as error:
            if id(schema) in self._names:
                error.add_note(self._names[id(schema)])
            raise


def codec_of(cls: type[BaseEvent[object]]) -> _Codec:
    """Return the class's codec, made at the first call.

    Raises:
        InvalidDeclaration: the class cannot be an event; see `BaseEvent`.
    """
    return cls.__codec__ or _make_codec(cls)


def _make_codec(cls: type[BaseEvent[object]]) -> _Codec:
    payload = cls.__payload_type__
    if isinstance(payload, ForwardRef):
        reason = (
            f"its payload type is a forward reference, {payload.__forward_arg__!r}; define it above"
        )
        raise InvalidDeclaration((_name_of(cls),), reason)
    if payload is None or isinstance(payload, TypeVar) or _parameters(payload):
        reason = "its payload type is open; declare class Name(BaseEvent[Payload]) and use that"
        raise InvalidDeclaration((_name_of(cls),), reason)
    if cls.event_name.startswith(RESERVED_PREFIX) and cls.__module__ != _CONTROL:
        reason = f"the name {cls.event_name!r} is under the reserved prefix {RESERVED_PREFIX!r}"
        raise InvalidDeclaration((_name_of(cls),), reason)
    try:
        head = json_head(cls.event_name)
        adapter = TypeAdapter(cast("TypeForm[object]", payload))
    except (InvalidField, PydanticSchemaGenerationError, PydanticUserError) as error:
        raise InvalidDeclaration((_name_of(cls),), str(error)) from error
    validator = adapter.validator
    writer = strict_writer(adapter)
    codec = _Codec(head, adapter, validator.validate_python, validator.validate_json, writer)
    cls.__codec__ = codec
    return codec


def _payload_type(cls: type[BaseEvent[object]]) -> object:
    """Return the `T` that `cls` declares, with what its generic bases left open filled in."""
    base = next(base for base in get_original_bases(cls) if _is_event_class(_class_of(base)))
    args = get_args(base)
    origin = _class_of(base)
    if origin is BaseEvent:
        return args[0] if args else None
    inherited = cast("type[BaseEvent[object]]", origin).__payload_type__
    given = dict(zip(_parameters(origin), args, strict=False))
    if isinstance(inherited, TypeVar):
        return given.get(inherited, inherited)
    if given and _parameters(inherited):
        filled = tuple(given[parameter] for parameter in _parameters(inherited))
        return cast("_Subscriptable", inherited)[filled]
    return inherited


def _class_of(base: object) -> object:
    return get_origin(base) or base


def _is_event_class(cls: object) -> TypeIs[type[BaseEvent[object]]]:
    return isinstance(cls, type) and issubclass(cls, BaseEvent)


class _Subscriptable(Protocol):
    def __getitem__(self, parameters: tuple[object, ...], /) -> object: ...


def _parameters(annotation: object) -> tuple[TypeVar, ...]:
    return cast("tuple[TypeVar, ...]", getattr(annotation, "__parameters__", ()))


def _classes_in(annotation: object) -> Iterator[type[BaseEvent[object]]]:
    for member in members(annotation):
        if not _is_event_class(member):
            name = _name_of(member) if isinstance(member, type) else str(member)
            raise InvalidDeclaration((name,), "a stream is made of subclasses of BaseEvent only")
        yield member


_E = TypeVar("_E", bound=BaseEvent[object])


def _new(cls: type[_E], data: object, id: str | None, retry: int | None) -> _E:
    event = object.__new__(cls)
    _set_data(event, data)
    _set_id(event, id)
    _set_retry(event, retry)
    return event


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def summary(error: ValidationError) -> str:
    """Say where and why, but not the value: payloads do not belong in messages."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the whole value"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}"
