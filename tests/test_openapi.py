import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field

import awkward
from documents import (
    as_item,
    misfits,
    objects_in,
    problems,
    references,
    referred,
    status_of,
    streams_of,
)
from typed_sse.demo.app import app as demo
from typed_sse.errors import InvalidDeclaration, InvalidField
from typed_sse.events import BaseEvent
from typed_sse.fastapi import EventRouter, LastEventId
from typed_sse.openapi import (
    PROFILES,
    Document,
    events_of,
    operations_of,
    paths_of,
    profile_of,
    resumes,
    streamed_by,
)
from typed_sse.testing import OpenStream, open_stream
from typed_sse.wire import Decoder, ServerSentEvent

APPS = {"demo": demo, "awkward": awkward.app, "mounted": awkward.mounted}
DOCUMENTS = {
    (name, profile): profile_of(app.openapi(), profile)
    for name, app in APPS.items()
    for profile in PROFILES
}
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS.values(), ids=map("-".join, DOCUMENTS)
)


def described(declare: Callable[[EventRouter], None], **options: Any) -> Document:
    app = FastAPI(**options)
    router = EventRouter()
    declare(router)
    app.include_router(router)
    return app.openapi()


def stream_at(document: Document, path: str, method: str = "get") -> dict[str, Any]:
    stream = streamed_by(document["paths"][path][method])
    assert stream is not None
    return stream


# --- what holds for every document


@each_document
def test_a_document_is_one_of_its_version(document: Document) -> None:
    assert problems(document) == []


def test_a_document_of_3_2_is_none_of_3_1() -> None:
    assert problems({**DOCUMENTS["demo", "spec"], "openapi": "3.1.0"})


@each_document
def test_every_reference_leads_somewhere_and_nothing_is_left_over(document: Document) -> None:
    found = references(document)
    for reference in found:
        assert isinstance(referred(document, reference), dict)
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert schemas <= found


@each_document
def test_a_component_has_a_name_that_a_document_can_have(document: Document) -> None:
    for name in document["components"]["schemas"]:
        assert not set(name) - set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
        )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", APPS)
def test_a_keyword_of_one_version_is_in_no_document_of_another(name: str, profile: str) -> None:
    document = DOCUMENTS[name, profile]
    new = profile == "spec"
    assert document["openapi"] == ("3.2.0" if new else "3.1.0")
    for _, _, _, stream in streams_of(document):
        assert ("itemSchema" in stream) == new
        assert not (new and "schema" in stream)
    found = {key for node in objects_in(document) for key in node}
    assert ("itemSchema" in found) == new
    assert ("x-sse-events" in found) == (profile == "payload")


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_document_that_is_given_stays_as_it_is(name: str, profile: str) -> None:
    document = APPS[name].openapi()
    before = deepcopy(document)
    written = profile_of(document, profile)
    assert document == before
    for schema in written["components"]["schemas"].values():
        schema.clear()
    assert document == before


@pytest.mark.parametrize("profile", PROFILES)
def test_a_document_is_the_same_at_every_time(profile: str) -> None:
    for name, app in APPS.items():
        again = json.dumps(profile_of(app.openapi(), profile))
        assert again == json.dumps(DOCUMENTS[name, profile])


def test_a_document_is_the_same_in_every_process() -> None:
    program = (
        "import awkward, json\n"
        "from typed_sse.openapi import PROFILES, profile_of\n"
        "document = awkward.app.openapi()\n"
        "print(json.dumps([profile_of(document, profile) for profile in PROFILES]))\n"
    )
    here = Path(__file__).parent
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=here,
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {json.dumps([DOCUMENTS["awkward", profile] for profile in PROFILES]) + "\n"}


# --- what a stream sends, beside its document


def parts_of(profile: str, name: str, data: str) -> object:
    """Return what the schema of a profile is about: the payload, or an object around it."""
    return {
        "payload": json.loads(data),
        "envelope": {"event": name, "data": json.loads(data)},
        "spec": {"event": name, "data": data},
    }[profile]


def test_there_is_a_request_for_each_stream_of_the_awkward_application() -> None:
    streams = streams_of(DOCUMENTS["awkward", "payload"])
    assert {(method, path) for method, path, _, _ in streams} == awkward.ASKED.keys()


@pytest.mark.parametrize("operation", awkward.ASKED, ids=" ".join)
async def test_what_is_sent_fits_the_document_in_every_profile(operation: tuple[str, str]) -> None:
    method, path = operation
    asked: dict[str, Any] = {"path": path, **awkward.ASKED[operation]}
    stream: OpenStream[ServerSentEvent] = open_stream(awkward.app, method=method.upper(), **asked)
    sent = [event async for event in stream]
    assert sent
    if path == "/untyped":
        return
    for profile in PROFILES:
        document = DOCUMENTS["awkward", profile]
        described = document["paths"][path][method]
        assert stream.status == status_of(described)
        media_type = stream_at(document, path, method)
        schema = media_type["itemSchema" if profile == "spec" else "schema"]
        for event in sent:
            assert event.data is not None
            part = parts_of(profile, event.event or "message", event.data)
            assert not misfits(document, schema, part)
    document = DOCUMENTS["awkward", "spec"]
    for event in sent:
        item = as_item(event)
        assert not misfits(document, stream_at(document, path, method)["itemSchema"], item)
        assert not misfits(document, payload_schema(document, path, method, item), item["data"])


def payload_schema(
    document: Document, path: str, method: str, item: dict[str, object]
) -> dict[str, Any]:
    union = referred(document, stream_at(document, path, method)["itemSchema"]["$ref"])
    event = referred(document, union["discriminator"]["mapping"][item["event"]])
    schema: dict[str, Any] = event["properties"]["data"]
    return schema


@pytest.mark.parametrize("name", APPS)
def test_the_wire_example_of_every_stream_fits_the_document(name: str) -> None:
    document = DOCUMENTS[name, "spec"]
    for method, path, operation, stream in streams_of(document):
        if "examples" not in stream:
            assert path in ("/untyped", "/sse")
            continue
        wire = stream["examples"]["wire"]["value"]
        assert wire.rstrip() in operation["description"]
        events = Decoder().feed(wire.encode())
        union = referred(document, stream["itemSchema"]["$ref"])
        assert [event.event for event in events] == list(union["discriminator"]["mapping"])
        for event in events:
            item = as_item(event)
            assert not misfits(document, stream["itemSchema"], item)
            text = payload_schema(document, path, method, item)
            assert event.data is not None
            assert not misfits(document, text["contentSchema"], json.loads(event.data))


def test_an_event_that_is_none_of_the_streams_fits_no_document() -> None:
    document = DOCUMENTS["awkward", "spec"]
    schema = stream_at(document, "/union")["itemSchema"]
    assert misfits(document, schema, {"event": "line", "data": '"text"'})
    assert misfits(document, schema, {"event": "moved"})
    assert misfits(document, schema, {"event": "moved", "data": {"x": 1}})
    document = DOCUMENTS["awkward", "envelope"]
    schema = stream_at(document, "/union")["schema"]
    assert misfits(document, schema, {"event": "line", "data": "text"})
    assert misfits(document, schema, {"event": "moved", "data": {"place": "home", "seconds": 1}})


# --- the demo, word by word

ERROR_TEXT = (
    "The stream has failed and ends here; everything before it was delivered.\n\n"
    "By default it says nothing of the exception: that is for the server's log."
)
JOB_WIRE = (
    'event: progress\ndata: {"step":0,"of":0,"doing":"text"}\n\n'
    'event: finished\ndata: {"files":0,"seconds":0}\n\n'
    "event: stream.error\n"
    'data: {"code":"internal","message":"The stream failed on the server."}\n\n'
)


def test_a_stream_of_the_demo_in_the_profile_payload() -> None:
    document = DOCUMENTS["demo", "payload"]
    assert document == demo.openapi()
    operation = document["paths"]["/job"]["get"]
    assert operation["description"] == (
        "Pretend to work, and say how far it is; at the end, give the result.\n"
        "\n"
        "| event | data | |\n"
        "| --- | --- | --- |\n"
        "| `progress` | JobStep | One step of a job is done. |\n"
        "| `finished` | JobResult | The job is done. The stream ends with it. |\n"
        "| `stream.error` | ErrorInfo | The stream has failed and ends here; everything before it "
        "was delivered. The stream ends with it. |\n"
        "\n"
        f"```\n{JOB_WIRE.rstrip()}\n```"
    )
    assert operation["responses"]["200"] == {
        "description": "A stream of events.",
        "content": {
            "text/event-stream": {
                "schema": {"$ref": "#/components/schemas/JobStreamData"},
                "x-sse-wire": JOB_WIRE,
            }
        },
    }
    payloads = [
        {"$ref": f"#/components/schemas/{name}"} for name in ("JobStep", "JobResult", "ErrorInfo")
    ]
    assert document["components"]["schemas"]["JobStreamData"] == {
        "title": "JobStreamData",
        "anyOf": payloads,
        "x-sse-events": {
            "properties": {
                "progress": payloads[0] | {"description": "One step of a job is done."},
                "finished": payloads[1]
                | {"description": "The job is done.", "x-sse-terminal": True},
                "stream.error": payloads[2] | {"description": ERROR_TEXT, "x-sse-terminal": True},
            }
        },
    }


def test_a_stream_of_the_demo_in_the_profile_spec() -> None:
    document = DOCUMENTS["demo", "spec"]
    schemas = document["components"]["schemas"]
    assert stream_at(document, "/job") == {
        "itemSchema": {"$ref": "#/components/schemas/JobStreamEvent"},
        "examples": {"wire": {"summary": "On the wire", "value": JOB_WIRE}},
        "x-sse": {"resumable": False, "terminal": ["finished", "stream.error"]},
    }
    mapping = {
        "progress": "#/components/schemas/ProgressEvent",
        "finished": "#/components/schemas/FinishedEvent",
        "stream.error": "#/components/schemas/StreamErrorEvent",
    }
    assert schemas["JobStreamEvent"] == {
        "title": "JobStreamEvent",
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": "event", "mapping": mapping},
    }
    assert schemas["StreamErrorEvent"] == {
        "title": "StreamErrorEvent",
        "type": "object",
        "description": ERROR_TEXT,
        "x-sse-terminal": True,
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string", "const": "stream.error"},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": "#/components/schemas/ErrorInfo"},
            },
            "id": {"type": "string"},
            "retry": {"type": "integer", "minimum": 0},
        },
    }
    assert "JobStreamData" not in schemas
    assert stream_at(document, "/sse")["itemSchema"] == {
        "type": "object",
        "properties": {
            "event": {"type": "string"},
            "data": {"type": "string"},
            "id": {"type": "string"},
            "retry": {"type": "integer", "minimum": 0},
        },
    }


def test_a_stream_of_the_demo_in_the_profile_envelope() -> None:
    document = DOCUMENTS["demo", "envelope"]
    assert stream_at(document, "/job") == {
        "schema": {"$ref": "#/components/schemas/JobStreamEvent"},
        "x-sse": {"resumable": False, "terminal": ["finished", "stream.error"]},
    }
    progress = document["components"]["schemas"]["ProgressEvent"]
    assert progress["properties"]["data"] == {"$ref": "#/components/schemas/JobStep"}
    assert progress["description"] == "One step of a job is done."


def test_an_event_of_two_streams_is_one_component() -> None:
    document = DOCUMENTS["demo", "spec"]
    one, two = (
        referred(document, stream_at(document, path)["itemSchema"]["$ref"])
        for path in ("/sse2", "/sse3")
    )
    assert one["oneOf"][0] == two["oneOf"][0] == {"$ref": "#/components/schemas/EchoEvent"}


def test_an_unknown_profile_is_an_error_that_lists_the_profiles() -> None:
    with pytest.raises(InvalidField, match=r"profile='3\.1': give one of payload, spec, envelope"):
        profile_of(demo.openapi(), "3.1")


# --- names that collide


def test_components_of_one_name_that_differ_are_both_kept() -> None:
    document = DOCUMENTS["awkward", "spec"]
    schemas = document["components"]["schemas"]
    changed: list[set[str]] = []
    for path in ("/items", "/warehouse/items"):
        union = referred(document, stream_at(document, path)["itemSchema"]["$ref"])
        event = referred(document, union["discriminator"]["mapping"]["item_changed"])
        assert event["title"] == "ItemChangedEvent"
        item = referred(document, event["properties"]["data"]["contentSchema"]["$ref"])
        changed.append(set(item["properties"]))
    assert changed == [{"name", "price_eur"}, {"shelf", "weight_kg"}]
    assert "ItemChangedEvent" in schemas


def test_a_model_of_the_application_keeps_the_name_that_a_component_would_have() -> None:
    for profile in PROFILES:
        document = DOCUMENTS["awkward", profile]
        ordinary = document["paths"]["/clashing"]["post"]
        body = ordinary["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert set(referred(document, body)["properties"]) == {"mine"}
        response = ordinary["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        assert set(referred(document, response)["properties"]) == {"mine"}
        events = stream_at(document, "/clash")
        assert events["itemSchema" if profile == "spec" else "schema"]["$ref"] not in (
            body,
            response,
        )


def test_what_fastapi_adds_to_the_name_of_a_model_is_not_in_the_names_of_events() -> None:
    data = "#/components/schemas/OneStreamData-Output"
    response = {"content": {"text/event-stream": {"schema": {"$ref": data}}}}
    events = {"x-sse-events": {"properties": {"moved": {"type": "integer"}}}}
    document: Document = {
        "openapi": "3.1.0",
        "info": {"title": "One", "version": "1"},
        "paths": {"/": {"get": {"responses": {"200": response}}}},
        "components": {"schemas": {"OneStreamData-Output": events}},
    }
    written = profile_of(document, "spec")
    assert list(written["components"]["schemas"]) == ["MovedEvent", "OneStreamEvent"]


def test_three_components_that_would_have_one_name_are_numbered() -> None:
    class Bare(BaseEvent[int], event="!"): ...

    class Barer(BaseEvent[str], event="?"): ...

    class Barest(BaseEvent[bool], event="✓"): ...

    def declare(router: EventRouter) -> None:
        @router.get("/")
        async def one() -> AsyncIterator[Bare | Barer | Barest]:
            yield Bare(1)

    document = profile_of(described(declare), "spec")
    union = referred(document, stream_at(document, "/")["itemSchema"]["$ref"])
    mapping = union["discriminator"]["mapping"]
    assert list(mapping) == ["!", "?", "✓", "stream.error"]
    assert len(set(mapping.values())) == 4
    assert problems(document) == []


def test_two_functions_of_one_name_in_one_module_are_told_apart() -> None:
    class First(BaseEvent[int]): ...

    class Second(BaseEvent[str]): ...

    def declare(router: EventRouter) -> None:
        def add_first() -> None:
            @router.get("/first")
            @router.get("/again")
            async def one() -> AsyncIterator[First]:
                yield First(1)

        def add_second() -> None:
            @router.get("/second")
            async def one() -> AsyncIterator[Second]:
                yield Second("")

        add_first()
        add_second()

    document = described(declare)
    schemas = {path: stream_at(document, path)["schema"]["$ref"] for path in document["paths"]}
    assert schemas["/first"] == schemas["/again"] != schemas["/second"]
    first = referred(document, schemas["/first"])
    assert list(first["x-sse-events"]["properties"]) == ["first", "stream.error"]


# --- what the program has said flows into the document


def test_docstrings_descriptions_examples_and_deprecation_are_in_the_document() -> None:
    document = DOCUMENTS["awkward", "spec"]
    schemas = document["components"]["schemas"]
    assert schemas["NowPlayingEvent"]["deprecated"] is True
    assert "deprecated" not in schemas["PlayingEvent"]
    assert schemas["Track"]["properties"]["length"]["deprecated"] is True
    assert schemas["Track"]["properties"]["length"]["description"] == "Use `seconds`."
    assert schemas["Address"]["properties"]["country"]["examples"] == ["DE"]
    assert schemas["StartedEvent"]["description"] == "It moves."
    assert schemas["Position"]["description"] == "Where something is."
    assert schemas["ArrivedEvent"]["x-sse-terminal"] is True
    assert stream_at(document, "/union")["x-sse"]["terminal"] == ["arrived", "stream.error"]
    assert document["paths"]["/deprecated"]["get"]["deprecated"] is True


def test_an_event_is_described_as_it_is_sent_where_a_request_differs() -> None:
    document = DOCUMENTS["awkward", "payload"]
    schemas = document["components"]["schemas"]
    assert schemas["Filter-Input"]["required"] == ["text"]
    assert schemas["Filter-Output"]["required"] == ["text", "is_broad"]
    assert list(schemas["Filter-Output"]["properties"]) == ["text", "limit", "tags", "is_broad"]
    events = events_of(document, stream_at(document, "/search", "post"))
    assert events is not None
    assert events["understood"]["$ref"] == "#/components/schemas/Filter-Output"
    reading = schemas["Reading"]
    assert set(reading["properties"]) == {"takenAt", "t", "sensor-name"}


def test_one_schema_for_both_directions_is_the_applications_choice() -> None:
    class Asked(BaseModel):
        text: str
        limit: int = 10

    class Answered(BaseEvent[Asked]): ...

    def declare(router: EventRouter) -> None:
        @router.post("/")
        async def one(question: Asked) -> AsyncIterator[Answered]:
            yield Answered(question)

    app_document = described(declare, separate_input_output_schemas=False)
    for profile in PROFILES:
        document = profile_of(app_document, profile)
        assert problems(document) == []
        for reference in references(document):
            referred(document, reference)


def test_a_stream_that_may_be_over_says_so_in_3_2_alone() -> None:
    over = {"description": "The stream is over; there is nothing to come back for."}
    responses = {
        profile: DOCUMENTS["awkward", profile]["paths"]["/maybe"]["get"]["responses"]
        for profile in PROFILES
    }
    assert responses["spec"]["204"] == over
    assert "204" not in responses["payload"]
    assert "204" not in responses["envelope"]
    found = {key for node in objects_in(DOCUMENTS["awkward", "spec"]) for key in node}
    assert "x-sse-may-be-over" not in found
    assert "x-sse-wire" not in found


def test_a_204_that_the_program_describes_stays_as_it_is() -> None:
    class Moved(BaseEvent[int]): ...

    def declare(router: EventRouter) -> None:
        @router.get("/", responses={204: {"description": "Nothing new."}})
        async def one() -> AsyncIterator[Moved] | None:
            return None

    document = profile_of(described(declare), "spec")
    assert document["paths"]["/"]["get"]["responses"]["204"] == {"description": "Nothing new."}


def test_a_stream_that_takes_the_last_event_id_is_resumable() -> None:
    document = DOCUMENTS["awkward", "spec"]
    operation = document["paths"]["/resumed"]["get"]
    assert resumes(operation)
    assert ("header", "Last-Event-ID") in {(p["in"], p["name"]) for p in operation["parameters"]}
    assert stream_at(document, "/resumed")["x-sse"] == {
        "resumable": True,
        "terminal": ["stream.error", "stream.end"],
    }
    assert not resumes(document["paths"]["/union"]["get"])


def test_other_answers_tags_security_and_extensions_stay() -> None:
    for profile in PROFILES:
        document = DOCUMENTS["awkward", profile]
        operation = document["paths"]["/responses"]["get"]
        assert operation["operationId"] == "followResponses"
        assert operation["x-own"] == "kept"
        assert operation["tags"] == ["moving"]
        assert operation["responses"]["200"]["description"] == "It moves."
        assert "X-Speed" in operation["responses"]["200"]["headers"]
        for code in ("404", "5XX"):
            content = operation["responses"][code]["content"]
            assert content == {
                "application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }
        assert document["paths"]["/secured"]["get"]["security"] == [{"HTTPBearer": []}]
        assert document["info"]["x-owner"] == "nobody"
        path = "/v1/leagues/teams/{team}/moves"
        assert document["paths"][path]["get"]["tags"] == ["leagues"]
        assert not any(path.startswith("/mounted") for path in document["paths"])
    assert list(DOCUMENTS["mounted", "spec"]["paths"]) == ["/moves"]


def test_what_the_docstring_keeps_from_the_document_stays_out_of_it() -> None:
    description = DOCUMENTS["awkward", "payload"]["paths"]["/described"]["get"]["description"]
    assert description.startswith("Say what is hard to say: | and ` and */.\n\n| one | two |\n")
    assert "not for the document" not in description
    assert "| `größe` | integer | A name that is not ASCII. |" in description


async def test_the_document_is_served_behind_a_prefix_as_any_other() -> None:
    app = FastAPI()
    app.include_router(awkward.router)

    async def behind(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/behind"}, receive, send)

    served = open_stream(behind, "/openapi.json")
    await served.ended()
    document = json.loads(served.body)
    assert document["servers"] == [{"url": "/behind"}]
    assert list(streams_of(document))
    assert profile_of(document, "spec")["servers"] == [{"url": "/behind"}]


# --- what there is no stream in, or somebody else's


def declare_ordinary(router: APIRouter) -> None:
    class Word(BaseModel):
        text: Annotated[str, Field(max_length=9)] = ""

    @router.get("/word", responses={404: {"description": "No such word."}})
    async def word(last: LastEventId) -> Word:
        return Word(text=str(last))

    @router.post("/words", status_code=201)
    def words(one: Word) -> list[Word]:
        return [one]


@pytest.mark.parametrize("profile", PROFILES)
def test_an_application_without_streams_has_fastapis_own_document(profile: str) -> None:
    documents: list[str] = []
    for router in (
        EventRouter(prefix="/v1", tags=["words"]),
        APIRouter(prefix="/v1", tags=["words"]),
    ):
        app = FastAPI()
        declare_ordinary(router)
        app.include_router(router)
        documents.append(json.dumps(app.openapi()))
    ours, fastapis = documents
    assert ours == fastapis
    written = json.dumps(profile_of(json.loads(ours), profile))
    version = "3.2.0" if profile == "spec" else "3.1.0"
    assert written == fastapis.replace('"openapi": "3.1.0"', f'"openapi": "{version}"')


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "media_type",
    [
        {"itemSchema": {"type": "object"}},
        {"schema": {"type": "string"}},
        {"schema": {"$ref": "#/components/schemas/Mine"}, "examples": {"one": {"value": 1}}},
    ],
)
def test_a_stream_that_somebody_else_describes_stays_as_it_is(
    profile: str, media_type: dict[str, Any]
) -> None:
    response = {"description": "A stream.", "content": {"text/event-stream": media_type}}
    document: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Theirs", "version": "1"},
        "paths": {"/": {"summary": "One.", "get": {"responses": {"200": response}}}},
        "components": {"schemas": {"Mine": {"type": "object"}}},
    }
    assert profile_of(document, profile)["paths"] == document["paths"]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_document_may_have_next_to_nothing(profile: str) -> None:
    document = {"openapi": "3.1.0", "info": {"title": "Nothing", "version": "1"}}
    assert profile_of(document, profile).keys() == document.keys()


def test_operations_come_in_the_order_of_the_document() -> None:
    document = DOCUMENTS["demo", "payload"]
    assert [path for path, _, _ in paths_of(document)] == [
        "/sse",
        "/sse2",
        "/sse3",
        "/job",
        "/chat",
        "/room",
        "/room/messages",
        "/room/cut",
    ]
    streams = [streamed_by(operation) is not None for operation in operations_of(document)]
    assert streams == [True] * 6 + [False] * 2
    assert streamed_by(DOCUMENTS["awkward", "spec"]["paths"]["/health"]["get"]) is None


def test_an_untyped_stream_has_no_events_that_a_document_could_name() -> None:
    document = DOCUMENTS["awkward", "payload"]
    assert events_of(document, stream_at(document, "/untyped")) is None
    events = events_of(document, stream_at(document, "/single"))
    assert events is not None
    assert list(events) == ["moved", "stream.error"]


# --- declarations


Handler = Callable[[], Awaitable[None]]


class Handled(BaseModel):
    name: str
    handler: Handler


class HandledEvent(BaseEvent[Handled]): ...


def test_a_payload_without_a_schema_is_an_error_unless_it_is_in_no_document() -> None:
    async def one() -> AsyncIterator[HandledEvent]:
        async def handler() -> None: ...

        yield HandledEvent(Handled(name="one", handler=handler))

    with pytest.raises(InvalidDeclaration, match=r"\.HandledEvent: its field handler has no JSON"):
        EventRouter().get("/")(one)
    EventRouter().get("/", include_in_schema=False)(one)


@pytest.mark.parametrize("profile", ["spec", "envelope"])
def test_what_a_callback_refers_to_is_still_there(profile: str) -> None:
    data = "#/components/schemas/OneStreamData"
    stream = {"content": {"text/event-stream": {"schema": {"$ref": data}}}}
    calls = {"{$request.body#/url}": {"post": {"responses": {"200": stream}}}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {
            "/": {"get": {"responses": {"200": {"description": "d"}}, "callbacks": {"c": calls}}}
        },
        "components": {
            "schemas": {
                "OneStreamData": {"x-sse-events": {"properties": {"one": {"type": "string"}}}},
                "OtherStreamData": {"x-sse-events": {"properties": {"two": {"type": "string"}}}},
                "Anything": True,
            }
        },
    }
    schemas = profile_of(document, profile)["components"]["schemas"]
    assert set(schemas) == {"OneStreamData", "Anything"}
