"""The programs of docs/howto/typescript.md, beside the page's own server.

They are compiled against the package as it is built, and run in a browser.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from live.conftest import UVICORN, Serve, served
from live.fault_proxy import Answer, CutAfter, FaultProxy, Pass, fault_proxy
from live.typescript import ROOT, STRICT, Compiled, bundle, installed, node, tsc, wanted_errors

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "howto" / "typescript.md").read_text(encoding="utf-8")
BLOCKS: dict[str, str] = dict(
    re.findall(r"<!-- (?:test|shown): typescript/(\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
)
PROGRAMS = ("api.ts", "main.ts", "ask.ts", "resume.ts", "Room.tsx")
# What a library needs besides, to write its declarations, is nothing for an application.
OF_LIBRARIES = {"--declaration", "--isolatedDeclarations", "--stripInternal"}
BROWSER = [
    *(option for option in STRICT if option not in OF_LIBRARIES),
    *("--lib", "es2022,dom,dom.iterable", "--jsx", "react-jsx"),
]
# What the page's pages are loaded with, and the token that its server would give.
SERVER = """
from itertools import count

from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from typed_sse.registry import process_registry

tokens = count(1)


@app.get("/open")
async def open_streams() -> int:
    return len(process_registry.open_streams())


@app.post("/token")
async def token() -> PlainTextResponse:
    return PlainTextResponse(f"token-{next(tokens)}")


app.mount("/", StaticFiles(directory="pages", html=True))
"""
HTML = """<!doctype html><meta charset=utf-8><link rel=icon href='data:,'><body></body>
<script type=module src="{}-page.js"></script>
"""
ENTRIES = {
    "main": 'import "./main.js";\n',
    "ask": 'import { ask } from "./ask.js";\nObject.assign(globalThis, { ask });\n',
    "resume": 'import "./resume.js";\n',
    "other": (
        'import { opener } from "typed-sse";\n'
        'import { streams } from "./streams.js";\n'
        "const headers = { Authorization: 'Bearer x' };\n"
        "const open = opener<any, any>(streams, { headers, baseUrl: location.hash.slice(1) });\n"
        'const stream = open("GET /rooms/{name}", { path: { name: "other" } });\n'
        "stream.onState = ({ state }) => { document.title = state; };\n"
        'stream.on("said", ({ data }: any) => document.body.append(data.text, " "));\n'
        "await stream.start();\n"
    ),
    "react": (
        'import { StrictMode } from "react";\n'
        'import { createRoot } from "react-dom/client";\n'
        'import { Room } from "./Room.js";\n'
        "const root = createRoot(document.body);\n"
        'root.render(<StrictMode><Room name="react" /></StrictMode>);\n'
        "Object.assign(globalThis, { root });\n"
    ),
}
ASK = """async (stopAfter) => {
    const words = [];
    const stopping = new AbortController();
    const onWord = (word) => {
        words.push(word);
        if (words.length === stopAfter) stopping.abort();
    };
    return [await ask("one two", onWord, stopping.signal), ...words];
}"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `node_modules` with the package and React."""
    return installed(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> str:
    return types_of(tmp_path_factory.mktemp("types"), BLOCKS["chat.py"])


def types_of(folder: Path, program: str) -> str:
    """The types of the page's server, as the page's command writes them."""
    (folder / "chat.py").write_text(program, encoding="utf-8")
    (folder / "src").mkdir()
    command = ["-m", "typed_sse", "types", "chat:app", "-o", "src/streams.ts"]
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    return (folder / "src" / "streams.ts").read_text("utf-8")


def compiled(folder: Path, modules: Path, files: Mapping[str, str]) -> Compiled:
    """Compile files as a front end that has installed the package does."""
    (folder / "node_modules").symlink_to(modules)
    return tsc(folder, files, *BROWSER)


# What compiles, and what does not.

WRONG = """\
import { open } from "./api.js";
import { ask } from "./ask.js";

for await (const event of open("POST /chat", { body: { prompt: "" } })) {
  event.data.text; // TS2339
  if (event.event === "token") event.data.text.length;
  if (event.event === "dnoe") break; // TS2367
}
open("POST /chat", { body: {} }); // TS2741
open("POST /chat"); // TS2554
open("GET /answer", { query: { prompt: 1 } }); // TS2322
open("GET /rooms/{name}", { path: { nmae: "" } }); // TS2353
open("GET /nothing"); // TS2345
open("GET /rooms/{name}", { path: { name: "" } }).on("sad", () => {}); // TS2345
ask("", (text: number) => text, new AbortController().signal); // TS2345
"""


def test_the_pages_programs_compile_and_what_is_wrong_does_not(
    tmp_path: Path, modules: Path, types: str
) -> None:
    assert BLOCKS["streams.ts"].rstrip() in types
    files = {name: BLOCKS[name] for name in PROGRAMS}
    done = compiled(tmp_path, modules, {"streams.ts": types, **files, "wrong.ts": WRONG})
    assert done.errors == wanted_errors("wrong.ts", WRONG), done.output


def test_an_event_that_a_switch_forgets_is_named_by_the_compiler_as_the_page_says(
    tmp_path: Path, modules: Path, types: str
) -> None:
    files = {name: BLOCKS[name] for name in ("api.ts", "forgotten.ts")}
    done = compiled(tmp_path, modules, {"streams.ts": types, **files})
    assert BLOCKS["forgotten.console"] == "$ npx tsc --noEmit\n" + done.output


@pytest.mark.parametrize(
    ("old", "new", "line", "code"),
    [
        ("text: str", "body: str", "event.data.text", "TS2339"),
        ("words: int", "count: int", "event.data.words", "TS2339"),
        ("[Token | Done]", "[Token | Done | Late]", "event satisfies never", "TS1360"),
        ("(prompt: str)", "(question: str)", "{ prompt:", "TS2353"),
    ],
)
def test_a_change_of_the_server_is_found_where_the_page_uses_it(
    tmp_path: Path, modules: Path, old: str, new: str, line: str, code: str
) -> None:
    program = BLOCKS["chat.py"].replace(old, new).replace("prompt.split()", "''.split()")
    program = program.replace(
        "router = EventRouter()", "class Late(BaseEvent[int]): ...\n\n\nrouter = EventRouter()"
    )
    main = BLOCKS["main.ts"]
    files = {"streams.ts": types_of(tmp_path, program), "api.ts": BLOCKS["api.ts"]}
    [number] = [place for place, text in enumerate(main.splitlines(), 1) if line in text]
    done = compiled(tmp_path, modules, {**files, "main.ts": main})
    assert done.errors == {("main.ts", number, code)}


def test_every_block_of_the_page_is_used() -> None:
    fences = re.findall(r"^```(?:python|tsx?)$", PAGE, re.MULTILINE)
    used = {"chat.py", "origin.py", "streams.ts", "forgotten.ts", "forgotten.console", *PROGRAMS}
    assert BLOCKS.keys() == used
    assert len(fences) == len(used) - 1


# What runs.


def pages(folder: Path, modules: Path, files: Mapping[str, str]) -> None:
    """Write each page, with a script that a bundler makes of its module, and what that imports."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "node_modules").symlink_to(modules)
    entries = [folder / f"{name}-page.tsx" for name in ENTRIES]
    for entry, text in zip(entries, ENTRIES.values(), strict=True):
        entry.write_text(text, encoding="utf-8")
    bundle(*map(str, entries), folder=folder / "pages", format="esm", jsx="automatic")
    for name in ENTRIES:
        (folder / "pages" / f"{name}.html").write_text(HTML.format(name))


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, modules: Path, types: str
) -> Iterator[FaultProxy]:
    """The page's server with the page's pages, behind a proxy."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "server.py").write_text(BLOCKS["chat.py"] + SERVER, encoding="utf-8")
    pages(folder, modules, {"streams.ts": types, **{name: BLOCKS[name] for name in PROGRAMS}})
    with served(UVICORN, folder / "log") as (url, _), fault_proxy(url) as proxy:
        yield proxy


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def say(site_url: str, room: str, text: str) -> None:
    httpx2.post(f"{site_url}/rooms/{room}", json={"text": text}).raise_for_status()


def wait_for_words(page: Page, words: str) -> None:
    page.wait_for_function(
        "words => document.body.innerText.match(/\\S+/g)?.join(' ') === words", arg=words
    )


def test_the_loop_works_in_a_browser(site: FaultProxy, page: Page) -> None:
    page.goto(f"{site.url}/main.html")
    wait_for_words(page, "one two (2 words)")


def test_a_post_is_read_and_sent_again_with_a_new_token_where_the_server_puts_it_off(
    site: FaultProxy, page: Page
) -> None:
    page.goto(f"{site.url}/ask.html")
    before = len(site.requests)
    site.script([Pass(), Answer(503, (("retry-after", "0"),))])

    assert page.evaluate(ASK) == ["2 words", "one", "two"]

    asked = [it for it in site.requests[before:] if it.path == "/chat"]
    assert [(it.method, json.loads(it.body)) for it in asked] == [
        ("POST", {"prompt": "one two"}),
        ("POST", {"prompt": "one two"}),
    ]
    first, second = (it.headers["authorization"] for it in asked)
    assert first.startswith("Bearer token-")
    assert first != second


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Answer(401, (("content-type", "text/plain"),), b"who?"), ["refused: 401 who?"]),
        (CutAfter(0), ["lost: cut"]),
    ],
)
def test_how_a_post_fails_is_told_and_it_is_not_sent_again(
    site: FaultProxy, page: Page, fault: Answer | CutAfter, told: list[str]
) -> None:
    page.goto(f"{site.url}/ask.html")
    before = len(site.requests)
    site.script([Pass(), fault])

    assert page.evaluate(ASK) == told

    assert [it.path for it in site.requests[before:]] == ["/token", "/chat"]


def test_a_post_is_stopped_by_its_signal(site: FaultProxy, page: Page) -> None:
    page.goto(f"{site.url}/ask.html")
    assert page.evaluate(ASK, 1) == ["stopped", "one"]


def test_a_page_that_is_loaded_again_goes_on_where_it_was(site: FaultProxy, page: Page) -> None:
    page.goto(f"{site.url}/resume.html")
    page.wait_for_function("document.title === 'open' && sessionStorage.getItem('tea')")
    say(site.url, "tea", "one")
    say(site.url, "tea", "two")
    wait_for_words(page, "one two")

    page.goto("about:blank")
    say(site.url, "tea", "three")
    page.goto(f"{site.url}/resume.html")

    wait_for_words(page, "three")
    say(site.url, "tea", "four")
    wait_for_words(page, "three four")


def test_a_component_shows_what_is_said_and_closes_its_stream_when_it_goes(
    site: FaultProxy, page: Page
) -> None:
    before = len(site.requests)
    page.goto(f"{site.url}/react.html")
    page.wait_for_selector("ul[aria-busy=false]", state="attached")
    say(site.url, "react", "one")
    site.cut_all()
    say(site.url, "react", "two")
    wait_for_words(page, "one two")
    asked = [it for it in site.requests[before:] if it.path == "/rooms/react"]
    assert [it.method for it in asked] == ["GET", "POST", "POST", "GET"]

    page.evaluate("root.unmount()")
    page.wait_for_function("fetch('/open').then((open) => open.json()).then((open) => open === 0)")


def test_a_page_of_another_origin_resumes_and_learns_the_idle_limit(
    site: FaultProxy, serve: Serve, page: Page
) -> None:
    origin = BLOCKS["origin.py"].replace("https://app.example.com", site.url)
    url, _ = serve(BLOCKS["chat.py"] + origin)
    with fault_proxy(url) as api:
        page.goto(f"{site.url}/other.html#{api.url}")
        page.wait_for_function("document.title === 'open'")
        say(url, "other", "one")
        wait_for_words(page, "one")
        api.cut_all()
        say(url, "other", "two")
        wait_for_words(page, "one two")
        limit = page.evaluate(
            "url => fetch(url).then((it) => it.headers.get('stream-idle-limit'))",
            f"{api.url}/rooms/other",
        )
        asked = [it for it in api.requests if it.path == "/rooms/other"]

    assert limit == "45"
    assert {it.method for it in asked} == {"OPTIONS", "GET"}
    first, second, _ = (it.headers.get("last-event-id") for it in asked if it.method == "GET")
    assert first is None
    assert second is not None


def test_the_package_works_in_node(serve: Serve, tmp_path: Path, modules: Path, types: str) -> None:
    url, _ = serve(BLOCKS["chat.py"])
    main = (
        'import { ask } from "./ask.js";\n'
        'console.log(await ask("one two", console.log, new AbortController().signal));\n'
    )
    api = BLOCKS["api.ts"].replace("{ headers }", f'{{ baseUrl: "{url}", headers }}')
    api = api.replace('fetch("/token", { method: "POST" })', 'new Response("token")')
    (tmp_path / "package.json").write_text('{"type": "module"}')
    files = {"streams.ts": types, "api.ts": api, "ask.ts": BLOCKS["ask.ts"], "main.ts": main}
    assert compiled(tmp_path, modules, files).output == ""

    done = subprocess.run(
        [node(), "made/main.js"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout == "one\ntwo\n2 words\n"
