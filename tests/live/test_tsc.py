"""Compiles what `typed-sse types` writes with TypeScript's own compiler."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Required, TypeVar
from uuid import UUID

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from pydantic import BaseModel, ConfigDict, Field, Json, JsonValue, computed_field
from typing_extensions import TypeAliasType, TypedDict, deprecated

import awkward
from hostile import NAMES, Schema, documents, ref
from live.typescript import tsc, wanted_errors
from typed_sse import BaseEvent
from typed_sse.codegen import typescript
from typed_sse.demo.app import app as demo_app
from typed_sse.fastapi import EventRouter
from typed_sse.testing import open_stream

pytestmark = pytest.mark.live


def app_of(router: EventRouter) -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    return app


def test_the_demos_types_compile_under_every_strict_option(tmp_path: Path) -> None:
    compiled = tsc(tmp_path, {"streams.ts": typescript(demo_app.openapi())})
    assert compiled.output == ""
    declared = (tmp_path / "made/streams.d.ts").read_text("utf-8")
    assert "export interface Streams" in declared


def test_an_application_without_streams_compiles(tmp_path: Path) -> None:
    assert tsc(tmp_path, {"streams.ts": typescript(FastAPI().openapi())}).output == ""


NARROWING = """\
import { type ChatStreamEvent, type StreamRequests, type Streams, streams } from "./streams.js";

function text(event: Streams["POST /chat"]): string {
  event.data.text; // TS2339
  switch (event.event) {
    case "token":
      event.data.tokens; // TS2339
      event.data.text.nothing; // TS2339
      return event.data.text;
    case "done":
      event.data.text; // TS2339
      return event.data.tokens.toFixed(0);
    case "dnoe": // TS2678
      return "";
    case "stream.error":
      return event.data.message + (event.id ?? "");
    default:
      return event satisfies never;
  }
}

function forgetful(event: ChatStreamEvent): number {
  switch (event.event) {
    case "token":
      return event.data.text.length;
    case "stream.error":
      return 0;
    default:
      event satisfies never; // TS1360
      return 1;
  }
}

export const right: ChatStreamEvent = { event: "done", data: { tokens: 1 }, id: "7" };
export const mixed: ChatStreamEvent = { event: "done", data: { text: "" } }; // TS2322
export const unnamed: ChatStreamEvent = { event: "finished", data: { tokens: 1 } }; // TS2322
export const body: StreamRequests["POST /chat"] = { body: { prompt: "" } };
export const wrong: StreamRequests["POST /chat"] = { body: { promt: "" } }; // TS2561
export const query: StreamRequests["GET /sse3"] = {}; // TS2741
export const steps: StreamRequests["GET /job"] = {};
export const untyped = (event: Streams["GET /sse"]): unknown => event.data;
export const none: Streams["GET /nothing"] | null = null; // TS2339

export function last<Operation extends keyof Streams>(
  operation: Operation,
  event: Streams[Operation],
): boolean {
  return streams[operation].terminal.includes(event.event);
}
streams["POST /chat"].terminal.includes("dnoe"); // TS2345
last("POST /chat", { event: "done", data: { tokens: 1 } });
last("POST /chat", { event: "progress", data: { step: 1, of: 1, doing: "" } }); // TS2322 // TS2353
export const all: ((event: ChatStreamEvent) => unknown)[] = [text, forgetful];
"""


def test_a_switch_narrows_and_what_is_wrong_does_not_compile(tmp_path: Path) -> None:
    files = {"streams.ts": typescript(demo_app.openapi()), "main.ts": NARROWING}
    compiled = tsc(tmp_path, files)
    assert compiled.errors == wanted_errors("main.ts", NARROWING), compiled.output


class Color(Enum):
    red = "red"
    blue = "blue"


class Size(IntEnum):
    small = 1
    large = 2


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


class Point(NamedTuple):
    x: int
    y: str = ""


class Partial(TypedDict, total=False):
    a: Required[int]
    b: str


Nested = TypeAliasType("Nested", "dict[str, Nested] | list[Nested] | str | None")


class Tree(BaseModel):
    kids: list["Tree"] = []


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: T | None


class Awkward(BaseModel):
    """Everything at once. */ export const broken: never = 1; /*

    @ts-expect-error
    """

    model_config = ConfigDict(extra="allow", ser_json_bytes="base64")

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pets: dict[Color, Cat | Dog]
    pair: tuple[int, str]
    many: tuple[int, ...]
    none_at_all: tuple[()]
    point: Point
    partial: Partial
    by_color: dict[Color, int]
    by_literal: dict[Literal["a", "b-c"], int]
    by_size: dict[Size, int]
    by_uuid: dict[UUID, int]
    by_pattern: dict[Annotated[str, Field(pattern="^a")], int]
    nested: Nested
    tree: Tree
    page: Page[Cat]
    anything: Any
    nothing: None
    raw: bytes
    amount: Decimal
    at: datetime
    lasting: timedelta
    json_value: JsonValue
    as_json: Json[list[int]]
    maybe: Color | None = None
    literal: Literal[1, "x", True] | None
    numbers: set[int]
    aliased: int = Field(alias="an odd-name", serialization_alias="an 'odd\" name`\\${x}\n*/")
    class_: int = Field(alias="class")
    old: int = Field(deprecated=True)

    @computed_field(description="@ts-expect-error")  # type: ignore[prop-decorator]
    @property
    def computed(self) -> int:
        return 1


class Everything(BaseEvent[Awkward], event="every'th\"ing`\\", terminal=True): ...


class Pets(BaseEvent[list[Cat | Dog]]): ...


@deprecated("Use everything.")
class Old(BaseEvent[Point | None]): ...


hostile_router = EventRouter()


@hostile_router.get("/{any}/*/'\"`\\")
async def everything(
    any: Color,
) -> AsyncIterator[Everything | Pets | Old]:  # pyright: ignore[reportDeprecated]
    """Ends the comment */ and goes on."""
    yield Pets([])


SENT = Everything.create(
    Awkward.model_validate(
        {
            "pet": {"kind": "cat", "lives": 9},
            "pets": {"red": {"kind": "dog", "tricks": []}},
            "pair": (1, "a"),
            "many": (1, 2, 3),
            "none_at_all": (),
            "point": (1, "a"),
            "partial": {"a": 1},
            "by_color": {"red": 1},
            "by_literal": {"b-c": 1},
            "by_size": {1: 1},
            "by_uuid": {UUID(int=1): 1},
            "by_pattern": {"a": 1},
            "nested": {"a": [{"b": None}, "c"]},
            "tree": {"kids": [{"kids": []}]},
            "page": {"items": [{"kind": "cat", "lives": 1}], "next": None},
            "anything": {"at": "all"},
            "nothing": None,
            "raw": b"\xff",
            "amount": "1.10",
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            "lasting": timedelta(seconds=1),
            "json_value": {"a": [1, None]},
            "as_json": "[1]",
            "literal": "x",
            "numbers": {1},
            "an odd-name": 1,
            "class": 1,
            "old": 1,
        }
    )
)

PETS = """\
import type { Streams } from "./streams.js";

type Events = Streams[keyof Streams];
type Pet = Extract<Events, { event: "pets" }>["data"][number];

export function count(pet: Pet): number {
  switch (pet.kind) {
    case "cat":
      return pet.lives;
    case "dog":
      return pet.tricks.length + pet.lives; // TS2339
    default:
      return pet satisfies never;
  }
}
"""


def test_what_a_server_sends_fits_the_types_that_were_written_for_it(tmp_path: Path) -> None:
    [line] = [line for line in SENT.encode().decode().splitlines() if line.startswith("data: ")]
    event = {"event": Everything.event_name, "data": json.loads(line.removeprefix("data: "))}
    program = (
        'import type { Streams } from "./streams.js";\n'
        f"export const sent: Streams[keyof Streams] = {json.dumps(event)};\n"
    )
    written = typescript(app_of(hostile_router).openapi())
    files = {"streams.ts": written, "sent.ts": program, "pets.ts": PETS}
    compiled = tsc(tmp_path, files)
    assert compiled.errors == wanted_errors("pets.ts", PETS), compiled.output


async def test_every_event_of_every_awkward_stream_fits_its_type(tmp_path: Path) -> None:
    lines = ['import type { Streams } from "./streams.js";', "export const sent = ["]
    for (method, path), asked in awkward.ASKED.items():
        options = dict(asked)
        where: str = options.pop("path", path)
        stream = open_stream(awkward.app, where, method=method.upper(), **options)
        key = json.dumps(f"{method.upper()} {path}")
        async for event in stream:
            assert event.data is not None
            data = event.data if path == "/untyped" else json.loads(event.data)
            sent = {"event": event.event or "message", "data": data}
            lines.append(f"  {json.dumps(sent)} satisfies Streams[{key}],")
    assert len(lines) > 2 + len(awkward.ASKED)
    program = "\n".join([*lines, "];", ""])
    wrong = program.replace(
        '{"event": "started", "data": {"x": 0', '{"event": "started", "data": {"z": 0'
    )
    assert wrong != program
    files = {"streams.ts": typescript(awkward.app.openapi()), "sent.ts": program, "wrong.ts": wrong}
    compiled = tsc(tmp_path, files, "--strict")
    assert {(file, code) for file, _, code in compiled.errors} == {("wrong.ts", "TS2353")}, (
        compiled.output
    )


WORDS = """
    abstract accessor any arguments as asserts async await bigint boolean break case catch class
    const constructor continue debugger declare default defer delete do else enum eval export
    extends false finally for from function get global globalThis if implements import in infer
    instanceof interface intrinsic is keyof let module namespace never new null number object of
    out override package private protected public readonly require return satisfies set static
    string super switch symbol this throw true try type typeof undefined unique unknown using var
    void while with yield Array Object String Promise Record Symbol Function Operation key streams
    __proto__ prototype toString exports
"""


def test_every_word_of_the_language_can_be_the_name_of_anything(tmp_path: Path) -> None:
    words = WORDS.split()
    models = {
        word: {"type": "object", "properties": {word: ref(words[number - 1])}, "required": [word]}
        for number, word in enumerate(words)
    }
    data = {"StreamData": {"x-sse-events": {"properties": {word: ref(word) for word in words}}}}
    document = {
        "paths": {
            "/": {
                "get": {
                    "parameters": [
                        {"in": "query", "name": word, "schema": ref(word)} for word in words
                    ],
                    "responses": {
                        "200": {"content": {"text/event-stream": {"schema": ref("StreamData")}}}
                    },
                }
            }
        },
        "components": {"schemas": models | data},
    }
    assert tsc(tmp_path, {"streams.ts": typescript(document)}).output == ""


def test_whatever_a_document_says_compiles(tmp_path: Path) -> None:
    some: list[dict[str, Schema]] = []

    @settings(max_examples=60, database=None, derandomize=True)
    @given(documents)
    def collect(document: dict[str, Schema]) -> None:
        some.append(document)

    collect()
    events = {name: {**ref(name), "description": name} for name in NAMES}
    stream = {"content": {"text/event-stream": {"schema": ref("Data")}}}
    operation = {"description": "\n".join(NAMES), "responses": {"200": stream}}
    files: dict[str, str] = {}
    for number, components in enumerate(some):
        data = {"Data": {"x-sse-events": {"properties": events}}}
        document = {
            "paths": {name: {"get": operation} for name in NAMES},
            "components": {"schemas": components | data},
        }
        files[f"streams{number}.ts"] = typescript(document)
    # All at once: a start of the compiler takes longer than its work.
    compiled = tsc(tmp_path, files, "--strict")
    wrong = {file for file, _, _ in compiled.errors}
    assert not wrong, compiled.output + "".join(files[file] for file in wrong)
