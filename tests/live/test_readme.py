"""The README's programs, run as a newcomer would: server, Python client, browser."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser

from live.typescript import bundle, installed, tsc
from typed_sse import Decoder, ServerSentEvent

pytestmark = pytest.mark.live

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    [code] = re.findall(rf"<!-- test: {re.escape(name)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    return str(code)


def test_the_client_prints_the_typed_events_of_the_server(
    serve: Callable[..., tuple[str, object]], tmp_path: Path
) -> None:
    url, _ = serve(block("server.py"))
    (tmp_path / "client.py").write_text(block("client.py").replace("http://127.0.0.1:8000", url))
    printed = subprocess.run(
        [sys.executable, "client.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert printed == (
        "Token(data=Word(text='one'), id='0', retry=None)\n"
        "Token(data=Word(text='two'), id='1', retry=None)\n"
        "Done(data=7, id='2', retry=None)\n"
    )


def test_the_lines_for_the_browser_compile_log_the_events_and_stop(
    serve: Callable[..., tuple[str, object]], browser: Browser, tmp_path: Path
) -> None:
    installed(tmp_path)
    url, _ = serve(block("server.py"))
    command = ["-m", "typed_sse", "types", "server:app", "-o", "streams.ts"]
    subprocess.run([sys.executable, *command], cwd=tmp_path, check=True, capture_output=True)
    types = (tmp_path / "streams.ts").read_text(encoding="utf-8")
    files = {"streams.ts": types, "page.ts": block("page.ts")}
    assert tsc(tmp_path, files, "--strict", "--lib", "es2022,dom,dom.iterable").output == ""
    bundle(str(tmp_path / "page.ts"), folder=tmp_path, format="esm")
    page = browser.new_page()
    page.goto(f"{url}/openapi.json")
    logged: list[str] = []
    # Not the missing favicon of a bare FastAPI application, which is an "error".
    page.on("console", lambda line: logged.append(line.text) if line.type == "log" else None)
    # Imported as a bundler's module; that is done when the loop is.
    page.evaluate(
        "text => import(URL.createObjectURL(new Blob([text], { type: 'text/javascript' }))).then()",
        (tmp_path / "page.js").read_text(encoding="utf-8"),
    )
    assert logged == ["one", "two", "7 characters"]
    page.close()


def test_a_reader_of_the_room_resumes_behind_the_last_id(
    serve: Callable[..., tuple[str, object]],
) -> None:
    code = block("room.py").replace("from server import Token, Word\n", "")
    url, _ = serve(block("server.py") + code)

    def say(text: str) -> str:
        body = json.dumps({"text": text}).encode()
        request = Request(f"{url}/room/a", body, {"Content-Type": "application/json"})
        with urlopen(request) as response:
            return str(json.load(response))

    def read(last_id: str, until: str) -> list[tuple[str, str | None]]:
        decoder = Decoder()
        events: list[ServerSentEvent] = []
        with urlopen(Request(f"{url}/room/a", headers={"Last-Event-ID": last_id})) as response:
            while not events or until not in str(events[-1].data):
                events += decoder.feed(response.read1())
        return [(json.loads(str(event.data))["text"], event.id) for event in events]

    first = say("one")
    second, third = say("two"), say("three")
    assert read(first, until="three") == [("two", second), ("three", third)]
    assert read(second, until="three") == [("three", third)]
