"""Runs modules of the console by themselves, in a real Chromium: the checker, samples, requests."""

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from playwright.sync_api import Browser, Page
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def page(browser: Browser, demo: str) -> Iterator[Page]:
    with browser.new_page(base_url=demo) as page:
        page.goto("/docs/events")
        yield page


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    a: int


class Leaf(BaseModel):
    name: str
    children: list["Leaf"] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(le=9)]


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Name = Annotated[str, Field(pattern="^[a-z]+$")]

CHECKED: list[tuple[Any, object, list[str]]] = [
    (int, 1, []),
    (int, 1.5, [""]),
    (int, True, [""]),
    (float, 1, []),
    (bool, 1, [""]),
    (str, None, [""]),
    (None, 0, [""]),
    (str | None, None, []),
    (str | None, 1, [""]),
    (int | str, [], [""]),
    (list[int], [1, "2", 3, "4"], ["/1", "/3"]),
    (tuple[int, str], [1, 2], ["/1"]),
    (tuple[int, str], [1], [""]),
    (tuple[int, str], [1, "a", 2], [""]),
    (dict[str, int], {"a": 1, "b/~": "2"}, ["/b~1~0"]),
    (dict[Name, int], {"a": 1}, []),
    (dict[Name, int], {"a": "1"}, ["/a"]),
    (Literal["a", 1], "b", [""]),
    (Literal["a", 1], 1, []),
    (Annotated[int, Field(gt=1, le=3)], 1, [""]),
    (Annotated[int, Field(gt=1, le=3)], 3, []),
    (Annotated[int, Field(gt=1, le=3)], 4, [""]),
    (Annotated[int, Field(ge=1, lt=3)], 0, [""]),
    (Annotated[int, Field(ge=1, lt=3)], 3, [""]),
    (Annotated[float, Field(multiple_of=0.5)], 1.5, []),
    (Annotated[float, Field(multiple_of=0.5)], 1.6, [""]),
    (Annotated[str, Field(min_length=2)], "😀", [""]),
    (Annotated[str, Field(max_length=1)], "😀", []),
    (Name, "A", [""]),
    (Annotated[list[int], Field(min_length=1)], [], [""]),
    (Annotated[list[int], Field(max_length=1)], [1, 2], [""]),
    (Annotated[dict[str, int], Field(min_length=1)], {}, [""]),
    (Annotated[dict[str, int], Field(max_length=1)], {"a": 1, "b": 2}, [""]),
    (Strict, {"a": 1}, []),
    (Strict, {}, [""]),
    (Strict, {"a": 1, "b": 2}, ["/b"]),
    (Strict, [], [""]),
    (Leaf, {"name": "a", "children": [{"name": "b", "children": []}]}, []),
    (Leaf, {"name": "a", "children": [{"name": 1}]}, ["/children/0/name"]),
    (list[Leaf], [{}, {}], ["/0", "/1"]),
    (Pet, {"kind": "cat", "lives": 9}, []),
    (Pet, {"kind": "cat", "lives": 10}, ["/lives"]),
    (Pet, {"kind": "dog"}, []),
    (Pet, {"kind": "cow"}, [""]),
    (Strict | None, {"a": "1"}, ["/a"]),
    (Cat | Strict, {"lives": 10}, [""]),
]

CHECK = """
async ([schema, value]) => {
    const { misfits } = await import("/docs/events/check.js");
    const { Schemas } = await import("/docs/events/schema.js");
    return misfits(value, schema, new Schemas(schema));
}
"""


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [pytest.param(*case, id=f"{case[0]} {case[1]}") for case in CHECKED],
)
def test_the_checker_says_where_a_value_does_not_fit_and_pydantic_agrees(
    page: Page, kind: Any, value: object, wanted: list[str]
) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    found = page.evaluate(CHECK, [adapter.json_schema(), value])

    assert [one["path"] for one in found] == wanted
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        assert wanted
    else:
        assert not wanted


@pytest.mark.parametrize(
    ("schema", "value", "wanted"),
    [
        (TypeAdapter(datetime).json_schema(), "no date", []),
        ({"type": "string", "pattern": "(?P<name>a)"}, "b", []),
        ({"unknown": 1, "type": ["integer", "null"]}, None, []),
        ({"$ref": "#/nowhere"}, 1, []),
        ({"$ref": "#"}, 1, []),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, 1, []),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}}, 1, []),
        ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}}, 1, [""]),
        (True, 1, []),
        ({"properties": {"a": False}}, {"a": 1}, ["/a"]),
        ({"type": "array", "uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], [""]),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 1, [""]),
        ({"const": {"a": [1, 2]}}, {"a": [1, 2]}, []),
        ({"const": {"a": [1, 2]}}, {"a": [2, 1]}, [""]),
        ({"type": "array", "items": {"type": "null"}}, [1] * 100, [f"/{n}" for n in range(20)]),
        ({"properties": {"toString": {"type": "null"}}}, {}, []),
        ({"required": ["toString"]}, {}, [""]),
    ],
)
def test_the_checker_complains_only_of_what_it_knows(
    page: Page, schema: object, value: object, wanted: list[str]
) -> None:
    assert [one["path"] for one in page.evaluate(CHECK, [schema, value])] == wanted


SAMPLE = """
async schema => {
    const { sampleOf } = await import("/docs/events/sample.js");
    const { Schemas } = await import("/docs/events/schema.js");
    return sampleOf(schema, new Schemas(schema));
}
"""


@pytest.mark.parametrize("kind", [Strict, Leaf, Pet, list[Cat | Dog], dict[str, int], int | None])
def test_a_sample_fits_its_schema(page: Page, kind: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    adapter.validate_python(page.evaluate(SAMPLE, adapter.json_schema()))


CURL = """
async request => {
    const { curlCommand } = await import("/docs/events/curl.js");
    return curlCommand(request);
}
"""
HOSTILE = 'it\'s "q" $HOME `id` $(id) \\ \n\t! * ; & | < > ~ # % @x ünï 😀'


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            {"url": "http://a/?b=c'd", "init": {"method": "GET", "headers": {"X": HOSTILE}}},
            ["-N", "http://a/?b=c'd", "-H", f"X: {HOSTILE}"],
        ),
        (
            {"url": "http://a/", "init": {"method": "POST", "body": HOSTILE}},
            ["-N", "http://a/", "--data-raw", HOSTILE],
        ),
        (
            {"url": "http://a/", "init": {"method": "POST"}},
            ["-N", "-X", "POST", "http://a/"],
        ),
        (
            {"url": "http://a/", "init": {"method": "PUT", "body": "@file"}},
            ["-N", "-X", "PUT", "http://a/", "--data-raw", "@file"],
        ),
        (
            {"url": "http://a/[1-9]", "init": {"method": "GET", "headers": {"Empty": ""}}},
            ["-N", "-g", "http://a/[1-9]", "-H", "Empty;"],
        ),
    ],
)
def test_a_shell_makes_of_the_curl_command_the_words_that_are_meant(
    page: Page, request_: dict[str, Any], words: list[str]
) -> None:
    command: str = page.evaluate(CURL, request_)

    # `printf` in the place of `curl` prints what it would be given.
    shell = ["sh", "-c", command.replace("curl", "printf '%s\\0'", 1)]
    printed = subprocess.run(shell, check=True, capture_output=True, text=True).stdout

    assert printed.split("\0")[:-1] == words


REQUEST = """
async ([operation, values]) => {
    const { requestOf, forFetch } = await import("/docs/events/request.js");
    const request = requestOf(operation, values, "http://a/root/");
    const sent = new Request(request.url, forFetch(request).init);
    return { url: sent.url, headers: Object.fromEntries(sent.headers), method: sent.method };
}
"""


def test_values_reach_the_path_the_query_and_the_headers_as_they_are(page: Page) -> None:
    def parameter(name: str, place: str, *values: str) -> dict[str, Any]:
        return {"parameter": {"name": name, "in": place}, "values": values}

    operation = {"method": "GET", "path": "/x:{a}/{b}/"}
    parameters = [
        parameter("a", "path", "1/2?#"),
        parameter("b", "path", "$&ü"),
        parameter("q", "query", "a b", "&="),
        parameter("X-Name", "header", "Löwe"),
        parameter("authorization", "header", "none"),
    ]
    credential = {"scheme": "s", "kind": "basic", "name": "Authorization"}
    values = {
        "parameters": parameters,
        "credentials": [{"credential": credential, "secret": "Löwe:x"}],
    }

    sent = page.evaluate(REQUEST, [operation, values])

    assert sent["url"] == "http://a/root/x:1%2F2%3F%23/%24%26%C3%BC/?q=a+b&q=%26%3D"
    assert sent["headers"] == {
        "x-name": "Löwe".encode().decode("latin-1"),
        "authorization": "Basic TMO2d2U6eA==",
    }


METER = """
async times => {
    const { Rate } = await import("/docs/events/meter.js");
    const rate = new Rate();
    for (const ms of times) rate.add(ms);
    return [rate.history(times.at(-1) + 1000), rate.perSecond(times.at(-1) + 1000)];
}
"""


def test_the_history_of_the_rate_is_whole_seconds_and_sixty_at_most(page: Page) -> None:
    assert page.evaluate(METER, [0, 100, 1200, 3100]) == [[2, 1, 0, 1], 1]
    history, per_second = page.evaluate(METER, [second * 1000 for second in range(100)])
    assert history == [1] * 60
    assert per_second == 1
