import json
import re
from collections.abc import AsyncIterator, MutableMapping
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import Receive, Send

import typed_sse.console
from typed_sse import BaseEvent, InvalidField
from typed_sse.console import EventDocs
from typed_sse.fastapi import EventRouter
from typed_sse.testing import ASGIApp, OpenStream, open_stream

STATIC = Path(typed_sse.console.__file__).parent / "console_static"
DOCUMENT = "/openapi-3.2.json"


class Tick(BaseModel):
    number: int


class Ticked(BaseEvent[Tick]): ...


router = EventRouter()


@router.get("/ticks")
async def ticks() -> AsyncIterator[Ticked]:
    yield Ticked(Tick(number=1))


def clock(**options: Any) -> FastAPI:
    app = FastAPI(title="Clock <1>")
    app.include_router(router)
    EventDocs(app, **options)
    return app


async def answer(app: ASGIApp, path: str, **headers: str) -> OpenStream[Any]:
    request = open_stream(app, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    await request.ended()
    return request


async def json_of(app: ASGIApp, path: str) -> Any:
    return json.loads((await answer(app, path)).body)


class Markup(HTMLParser):
    """Writes down what a policy is about: where things come from, and what is inline."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline: list[str] = []
        self.data: dict[str, str] = {}
        self.title = ""
        self._within = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        given = dict(attrs)
        self.urls += [value for name in ("src", "href") if (value := given.get(name))]
        self.data |= {name: value or "" for name, value in attrs if name.startswith("data-")}
        self.inline += [f"<{tag} {name}>" for name in given if name.startswith("on")]
        if "style" in given or tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(f"<{tag}>")

    def handle_data(self, data: str) -> None:
        if self._within == "title":
            self.title += data
        self._within = ""


async def everything_the_page_needs(app: ASGIApp, page_url: str) -> dict[str, OpenStream[Any]]:
    """Read the page and whatever it, its styles and its modules name: URL -> answer."""
    page = await answer(app, page_url)
    to_read = [urljoin(page_url, url) for url in Markup(page.body).urls if not url.startswith("#")]
    read = {page_url: page}
    while to_read:
        url = to_read.pop()
        if url in read:
            continue
        read[url] = await answer(app, url)
        named = re.findall(rb'from "(\./[^"]+)"|url\((\./[^)]+)\)', read[url].body)
        to_read += [urljoin(url, (module or image).decode()) for module, image in named]
    return read


async def test_the_page_is_sent_under_a_policy_that_allows_only_its_own_files() -> None:
    page = await answer(clock(), "/docs/events")

    assert page.status == HTTPStatus.OK
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"


async def test_nothing_on_the_page_is_inline_or_from_elsewhere() -> None:
    page = Markup((await answer(clock(), "/docs/events")).body)

    assert page.inline == []
    assert len(page.urls) > 5
    assert [url for url in page.urls if re.match(r"[a-z]+:|/", url)] == []


@pytest.mark.parametrize("module", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_no_module_makes_markup_or_code_of_a_text(module: Path) -> None:
    made = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function"
    assert re.findall(made, module.read_text("utf-8")) == []


async def test_the_page_leads_to_each_of_its_files_and_to_nothing_that_is_not_there() -> None:
    read = await everything_the_page_needs(clock(), "/docs/events")

    assert {answer.status for answer in read.values()} == {HTTPStatus.OK}
    names = {url.removeprefix("/docs/events/") for url in read}
    assert names == {"/docs/events", DOCUMENT} | {
        file.name for file in STATIC.iterdir() if file.suffix != ".html"
    }


@pytest.mark.parametrize(
    ("file", "media_type"),
    [
        ("console.js", "text/javascript; charset=utf-8"),
        ("base.css", "text/css; charset=utf-8"),
        ("favicon.svg", "image/svg+xml"),
    ],
)
async def test_a_file_has_its_own_type_whatever_the_machine_thinks(
    file: str, media_type: str
) -> None:
    sent = await answer(clock(), f"/docs/events/{file}")

    assert sent.headers["content-type"] == media_type
    assert sent.headers["x-content-type-options"] == "nosniff"
    assert sent.body == (STATIC / file).read_bytes()


@pytest.mark.parametrize("path", ["/docs/events", "/docs/events/console.js"])
async def test_what_the_browser_has_already_is_not_sent_again(path: str) -> None:
    app = clock()
    first = await answer(app, path)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"

    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = await answer(app, path, if_none_match=known)
        assert (again.status, again.body) == (HTTPStatus.NOT_MODIFIED, b"")
        assert again.headers["etag"] == etag
        assert "content-security-policy" in again.headers

    changed = await answer(app, path, if_none_match='"other"')
    assert (changed.status, changed.body) == (HTTPStatus.OK, first.body)


@pytest.mark.parametrize(
    "name",
    [
        "console.html",
        "none.js",
        "__init__.py",
        "..%2Fconsole.py",
        "..%5Cconsole.py",
        "../console.py",
        "%2e%2e/console.py",
        "CONSOLE.JS",
        "console.js%00",
    ],
)
async def test_nothing_but_the_files_of_the_page_is_sent(name: str) -> None:
    assert (await answer(clock(), f"/docs/events/{name}")).status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("url", ["/docs/events", "/events", "/", "/a/b/c", "/docs/"])
@pytest.mark.parametrize("openapi_url", [DOCUMENT, "/docs/document.json"])
async def test_wherever_it_is_the_page_finds_its_files_its_document_and_the_root(
    url: str, openapi_url: str
) -> None:
    app = clock(url=url, openapi_url=openapi_url)

    read = await everything_the_page_needs(app, url)

    assert {answer.status for answer in read.values()} == {HTTPStatus.OK}
    data = Markup(read[url].body).data
    assert urljoin(url, data["data-document"]) == openapi_url
    assert urljoin(url, data["data-root"]) == "/"


async def test_the_document_is_of_openapi_3_2_and_has_streams_that_came_later() -> None:
    app = FastAPI()
    EventDocs(app)
    app.include_router(router)

    document = await json_of(app, DOCUMENT)

    assert document["openapi"].startswith("3.2.")
    response = document["paths"]["/ticks"]["get"]["responses"]["200"]
    assert "itemSchema" in response["content"]["text/event-stream"]
    assert "servers" not in document


def behind(app: ASGIApp, prefix: str) -> ASGIApp:
    """Serve under a prefix that a proxy takes off, and the server knows of."""

    async def with_prefix(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": prefix, "path": prefix + scope["path"]}, receive, send)

    return with_prefix


async def test_behind_a_prefix_the_page_needs_to_know_nothing_of_it() -> None:
    app = clock()

    read = await everything_the_page_needs(behind(app, "/shop"), "/docs/events")

    assert {answer.status for answer in read.values()} == {HTTPStatus.OK}
    assert read["/docs/events"].body == (await answer(app, "/docs/events")).body


async def test_behind_a_prefix_the_document_says_where_the_application_is() -> None:
    app = clock()
    assert (await json_of(behind(app, "/shop"), DOCUMENT))["servers"] == [{"url": "/shop"}]
    assert "servers" not in await json_of(app, DOCUMENT)

    app.servers = [{"url": "/shop"}, {"url": "https://example.com"}]
    app.openapi_schema = None
    assert (await json_of(behind(app, "/shop"), DOCUMENT))["servers"] == app.servers
    both = (await json_of(behind(app, "/other"), DOCUMENT))["servers"]
    assert both == [{"url": "/other"}, *app.servers]


async def test_an_application_that_keeps_its_root_path_to_itself_is_asked() -> None:
    app = FastAPI(root_path_in_servers=False)
    EventDocs(app)
    assert "servers" not in await json_of(behind(app, "/shop"), DOCUMENT)


async def test_a_mounted_application_has_a_page_of_its_own() -> None:
    outer = FastAPI()
    outer.mount("/clock", clock())

    read = await everything_the_page_needs(outer, "/clock/docs/events")

    assert {answer.status for answer in read.values()} == {HTTPStatus.OK}
    data = Markup(read["/clock/docs/events"].body).data
    document = urljoin("/clock/docs/events", data["data-document"])
    assert document == f"/clock{DOCUMENT}"
    assert urljoin("/clock/docs/events", data["data-root"]) == "/clock/"
    assert (await json_of(outer, document))["servers"] == [{"url": "/clock"}]
    assert (await answer(outer, "/docs/events")).status == HTTPStatus.NOT_FOUND


async def test_the_page_can_be_off_and_the_document_there() -> None:
    app = clock(url=None)
    assert (await answer(app, DOCUMENT)).status == HTTPStatus.OK
    assert (await answer(app, "/docs/events")).status == HTTPStatus.NOT_FOUND


async def test_both_can_be_off() -> None:
    app = clock(url=None, openapi_url=None)
    assert (await answer(app, DOCUMENT)).status == HTTPStatus.NOT_FOUND
    assert (await answer(app, "/docs/events")).status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"openapi_url": None}, "openapi_url"),
        ({"openapi_url": "openapi.json"}, "openapi_url"),
        ({"openapi_url": "/openapi.json"}, "openapi_url"),
        ({"openapi_url": "/docs/events"}, "openapi_url"),
        ({"url": "docs"}, "url"),
        ({"url": "//docs"}, "url"),
        ({"url": "/docs/{name}"}, "url"),
        ({"url": "/docs?events"}, "url"),
        ({"url": "/docs#events"}, "url"),
    ],
)
def test_a_path_that_cannot_be_one_is_refused_when_the_page_is_made(
    options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        clock(**options)
    assert refused.value.field == field


def test_nothing_of_it_is_in_the_schema_of_the_application() -> None:
    assert set(clock().openapi()["paths"]) == {"/ticks"}


@pytest.mark.parametrize(
    ("options", "title"),
    [({}, "Clock <1> - Events"), ({"title": "$tick </title>&amp;"}, "$tick </title>&amp;")],
)
async def test_the_title_is_a_text(options: dict[str, Any], title: str) -> None:
    page = await answer(clock(**options), "/docs/events")
    assert Markup(page.body).title == title


async def test_what_is_added_beneath_the_page_later_is_found() -> None:
    app = clock(url="/")

    @app.get("/later")
    async def later() -> str:
        return "here"

    assert await json_of(app, "/later") == "here"
