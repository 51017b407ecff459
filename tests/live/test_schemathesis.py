"""Runs Schemathesis on documents of OpenAPI 3.2: it asks a server, and checks every event it gets.

It has an environment of its own, `.venv/schemathesis`: it is a plugin of pytest too, and would be
loaded into every test.
"""

import base64
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

import awkward
from documents import referred, streams_of
from typed_sse.demo.app import app as demo
from typed_sse.openapi import Document, profile_of
from typed_sse.wire import Decoder

pytestmark = pytest.mark.live

Serve = Callable[..., tuple[str, object]]
SCHEMATHESIS = Path(sys.prefix) / "schemathesis" / "bin" / "schemathesis"
LIMIT_S = 100
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)

DEMO = """
from importlib import import_module

demo = import_module("typed_sse.demo.app")
# It takes its time otherwise.
demo.INTERVAL_S = demo.STEP_S = demo.TOKEN_S = 0.001
app = demo.app
"""

AWKWARD = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parents[1])!r})

from awkward import app
"""

DOCTORED = """
from collections.abc import AsyncIterator

from fastapi import FastAPI

from typed_sse import ServerSentEvent
from typed_sse.demo.app import Prompt
from typed_sse.fastapi import EventRouter

router = EventRouter()


@router.post("/right")
async def right(request: Prompt) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(event="token", data={"text": "a"})
    yield ServerSentEvent(event="done", data={"tokens": 1})


@router.post("/payload")
async def payload(request: Prompt) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(event="token", data={"text": 5})


@router.post("/unknown")
async def unknown(request: Prompt) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(event="tokens", data={"text": "a"})


@router.post("/swapped")
async def swapped(request: Prompt) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(event="done", data={"text": "a"})


@router.post("/malformed")
async def malformed(request: Prompt) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(event="token", data="a")


app = FastAPI()
app.include_router(router)
"""


@dataclass
class Asked:
    """What came of the requests to one operation.

    Attributes:
        events: the names of all events that were sent.
        checks: the names of all checks that were made.
        failed: the names of those that have failed.
    """

    events: set[str | None] = field(default_factory=set[str | None])
    checks: set[str] = field(default_factory=set[str])
    failed: set[str] = field(default_factory=set[str])


def check(document: Document, url: str, folder: Path) -> dict[str, Asked]:
    """Run Schemathesis, and return what it has asked, seen and found, by operation."""
    file, report = folder / "openapi.json", folder / "report.ndjson"
    file.write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "--no-color", "run", file, "--url", url),
            *("--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing", "--mode", "positive"),
            *("--seed", "1", "--max-examples", "3", "--generation-database", "none"),
            *("--request-timeout", "5", "--continue-on-failure", "--no-shrink"),
            *("--header", "Authorization: Bearer x", "--report-ndjson-path", report),
        ],
        cwd=folder,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    asked: dict[str, Asked] = defaultdict(Asked)
    for line in report.read_text(encoding="utf-8").splitlines():
        scenario = json.loads(line).get("ScenarioFinished")
        if scenario is not None:
            _add(asked[scenario["recorder"]["label"]], scenario["recorder"])
    found = any(operation.failed for operation in asked.values())
    assert done.returncode == found, done.stdout
    return asked


def _add(operation: Asked, recorder: Mapping[str, Any]) -> None:
    for check in chain.from_iterable(recorder["checks"].values()):
        operation.checks.add(check["name"])
        if check["status"] != "success":
            operation.failed.add(check["name"])
    for interaction in recorder["interactions"].values():
        response = interaction["response"]
        [media_type] = response["headers"].get("content-type", [""])
        if media_type.startswith("text/event-stream"):
            body = base64.b64decode(response["content"]["$base64"])
            operation.events |= {event.event for event in Decoder().feed(body)}


def names_of(document: Document) -> dict[str, set[str]]:
    """Return the names of a stream's own events, by operation; of an untyped one, none."""
    names: dict[str, set[str]] = {}
    for method, path, _, stream in streams_of(document):
        union = referred(document, stream["itemSchema"].get("$ref", "#/info"))
        events = union.get("discriminator", {}).get("mapping", {})
        names[f"{method.upper()} {path}"] = {
            name for name in events if not name.startswith("stream.")
        }
    return names


@pytest.mark.parametrize(
    ("app", "program"), [(demo, DEMO), (awkward.app, AWKWARD)], ids=["demo", "awkward"]
)
def test_every_stream_is_accepted_with_each_of_its_events(
    app: FastAPI, program: str, serve: Serve, tmp_path: Path
) -> None:
    url, _ = serve(program)
    document = profile_of(app.openapi(), "spec")
    asked = check(document, url, tmp_path)
    for operation, names in names_of(document).items():
        assert asked[operation].checks == set(CHECKS)
        assert asked[operation].failed == set()
        # Of a long stream, it reads the first events.
        assert asked[operation].events >= names - {"finished", "done"}
        assert asked[operation].events


def test_a_server_that_sends_other_than_it_says_is_rejected(serve: Serve, tmp_path: Path) -> None:
    document = profile_of(demo.openapi(), "spec")
    chat = document["paths"]["/chat"]["post"]
    names = ("right", "payload", "unknown", "swapped", "malformed")
    document["paths"] = {f"/{name}": {"post": {**chat, "operationId": name}} for name in names}
    url, _ = serve(DOCTORED)
    asked = check(document, url, tmp_path)
    failed = {operation: found.failed for operation, found in asked.items()}
    assert failed == {
        "POST /right": set(),
        "POST /payload": {"response_schema_conformance"},
        "POST /unknown": {"response_schema_conformance"},
        "POST /swapped": {"response_schema_conformance"},
        "POST /malformed": {"response_schema_conformance"},
    }
