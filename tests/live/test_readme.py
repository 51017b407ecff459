"""The README's programs, run as a newcomer would: server, Python client, browser."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

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


def test_the_lines_for_the_browser_log_the_events_and_stop(
    serve: Callable[..., tuple[str, object]], browser: Browser
) -> None:
    page = browser.new_page()
    url, _ = serve(block("server.py"))
    page.goto(f"{url}/openapi.json")
    logged: list[str] = []
    # Not the missing favicon of a bare FastAPI application, which is an "error".
    page.on("console", lambda line: logged.append(line.text) if line.type == "log" else None)
    with page.expect_console_message(lambda message: "characters" in message.text):
        page.evaluate(f"() => {{ {block('page.js')}; window.source = source; }}")
    page.wait_for_function("source.readyState === EventSource.CLOSED")
    assert logged == ["one", "two", "7 characters"]
    page.close()
