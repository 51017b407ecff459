import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from typed_sse import InvalidField, ServerSentEvent
from typed_sse import recording as module
from typed_sse.recording import RecordedEvent, Recorder, read_recording

URL = "https://ann:secret@api.example/chat?key=hidden#part"
HEAD = '{"typed-sse": 1, "url": "https://api.example/chat"}\n'
THEN = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)


def every_half_second() -> Iterator[float]:
    return (100 + number / 2 for number in itertools.count())


def recorder(file: Path, *, append: bool = False) -> Recorder:
    clock = every_half_second()
    return Recorder(file, URL, append=append, clock=lambda: next(clock), now=lambda: THEN)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stream.jsonl"


def test_a_recording_is_a_file_that_people_can_read(file: Path) -> None:
    with recorder(file) as recording:
        recording.event(ServerSentEvent('{"text":"Grüße"}', event="token", id=1, retry=2000))
        recording.event(ServerSentEvent("two\nlines", event="note", id=1))
        recording.lost("cut")
        recording.event(ServerSentEvent('{"text": "spaced"}'))
    assert file.read_text(encoding="utf-8").splitlines() == [
        HEAD.rstrip("}\n") + ', "recorded": "2026-11-26T09:30:00+00:00"}',
        '{"at_s": 0.5, "event": "token", "id": "1", "retry": 2000, "json": {"text": "Grüße"}}',
        '{"at_s": 1.0, "event": "note", "id": "1", "data": "two\\nlines"}',
        '{"at_s": 1.5, "lost": "cut"}',
        '{"at_s": 2.0, "data": "{\\"text\\": \\"spaced\\"}"}',
    ]


def test_what_may_be_secret_in_a_url_is_not_written(file: Path) -> None:
    with recorder(file) as recording:
        recording.event(ServerSentEvent("x"))
    assert "secret" not in file.read_text()
    assert "hidden" not in file.read_text()


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))
NAMES = TEXTS.map(lambda text: text.replace("\n", ""))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def readable(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


COMPACT = VALUES.map(compact)
READABLE = st.dictionaries(TEXTS, TEXTS | st.floats() | st.lists(st.integers())).map(readable)
EVENTS = st.builds(
    ServerSentEvent,
    TEXTS | COMPACT | READABLE,
    event=st.none() | NAMES.filter(bool),
    id=st.none() | NAMES.map(lambda name: name.replace("\0", "")),
    retry=st.none() | st.integers(0, 10**15 - 1),
)


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(EVENTS, min_size=1))
def test_what_is_read_are_the_events_that_were_written(
    tmp_path: Path, events: list[ServerSentEvent]
) -> None:
    file = tmp_path / "any.jsonl"
    file.unlink(missing_ok=True)
    with recorder(file) as recording:
        for event in events:
            recording.event(event)
    read = read_recording(file)
    assert [item.event for item in read.events] == events
    assert [item.at_s for item in read.events] == [(n + 1) / 2 for n in range(len(events))]
    assert not read.torn


@pytest.mark.parametrize(
    "data",
    ["[" * 300 + "]" * 300, "[" * 100_000, '{"a":1,"a":2}', '{"a":1.0e2}', "[NaN]", "[1e999]"],
)
def test_data_that_would_not_come_back_as_it_was_is_kept_as_text(file: Path, data: str) -> None:
    with recorder(file) as recording:
        recording.event(ServerSentEvent(data))
    assert '"json"' not in file.read_text()
    assert read_recording(file).events == (RecordedEvent(0.5, ServerSentEvent(data)),)


def test_a_file_has_nothing_that_a_terminal_obeys(file: Path) -> None:
    event = ServerSentEvent('{"a":"\x9b31m\x7f\u202e"}', event="\x1b[2J", id="\x07")
    with recorder(file) as recording:
        recording.event(event)
    text = file.read_text(encoding="utf-8")
    assert not {"\x9b", "\x7f", "\u202e", "\x1b", "\x07"} & {*text}
    assert [item.event for item in read_recording(file).events] == [event]


def test_what_is_written_is_in_the_file_at_once(file: Path) -> None:
    with recorder(file) as recording:
        recording.event(ServerSentEvent("x"))
        assert len(read_recording(file).events) == 1


def test_where_nothing_has_come_no_file_is_left(file: Path) -> None:
    with recorder(file) as recording:
        recording.lost("unreachable")
        assert file.exists()
    assert not file.exists()
    file.write_text(HEAD)
    with recorder(file, append=True):
        pass
    assert file.read_text().startswith(HEAD)


def test_a_file_that_exists_is_refused_and_stays_as_it_was(file: Path) -> None:
    file.write_text("mine")
    with pytest.raises(InvalidField, match="the file exists; give another name, or --append"):
        recorder(file)
    assert file.read_text() == "mine"


def test_a_recording_is_written_on_where_that_is_asked_for(file: Path) -> None:
    with recorder(file) as recording:
        recording.event(ServerSentEvent("one"))
    with recorder(file, append=True) as recording:
        recording.event(ServerSentEvent("two"))
    read = read_recording(file)
    assert [(item.at_s, item.event.data) for item in read.events] == [(0.5, "one"), (1.5, "two")]
    assert read.losses == 1
    assert read.url == "https://api.example/chat"


def test_to_write_on_in_a_file_that_is_not_there_begins_it(file: Path) -> None:
    with recorder(file, append=True) as recording:
        recording.event(ServerSentEvent("one"))
    assert read_recording(file).losses == 0


def test_a_file_that_is_no_recording_is_not_written_on(file: Path) -> None:
    file.write_text("mine\n")
    with pytest.raises(InvalidField, match="it is not JSON"):
        recorder(file, append=True)
    assert file.read_text() == "mine\n"


@pytest.mark.parametrize("kept", range(1, 18))
def test_a_last_line_that_is_torn_is_left_out_told_and_replaced(file: Path, kept: int) -> None:
    whole = HEAD + '{"at_s": 1, "data": "one"}\n'
    file.write_text(whole + '{"at_s": 2, "data": "two"}'[:kept])
    read = read_recording(file)
    assert [item.event.data for item in read.events] == ["one"]
    assert read.torn
    with recorder(file, append=True) as recording:
        recording.event(ServerSentEvent("three"))
    assert file.read_text().startswith(whole + '{"at_s": ')
    assert [item.event.data for item in read_recording(file).events] == ["one", "three"]


def test_a_last_line_without_an_end_counts_where_it_is_whole(file: Path) -> None:
    file.write_text(HEAD + '{"at_s": 1, "data": "one"}')
    assert len(read_recording(file).events) == 1
    assert not read_recording(file).torn
    with recorder(file, append=True) as recording:
        recording.event(ServerSentEvent("two"))
    assert [item.event.data for item in read_recording(file).events] == ["one", "two"]


def test_a_file_may_be_edited_with_empty_lines_and_other_spaces(file: Path) -> None:
    file.write_text(
        HEAD + '\n  {"data":"a","at_s":0}\n\r\n{"at_s": 2, "json": {"b": 1.50}, "id": 7}\r\n'
    )
    assert [item.event for item in read_recording(file).events] == [
        ServerSentEvent("a"),
        ServerSentEvent('{"b":1.5}', id="7"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is empty"),
        ("hello\n", "1=b'hello\\n': it is not JSON"),
        ("\x00\x01", "1=b'\\x00\\x01': it is not JSON"),
        ("[]\n", "1=b'[]\\n': give a JSON object on each line"),
        ("{}\n", 'the first line of a recording has "typed-sse": 1'),
        ('{"typed-sse": 2}\n', 'the first line of a recording has "typed-sse": 1'),
        ('{"typed-sse": 1, "url": 3}\n', "1=3: url is a string"),
        (HEAD + "{\n" + HEAD, "2=b'{\\n': it is not JSON"),
        (HEAD + '{"data": "x"}\n', "2=None: at_s is the seconds"),
        (HEAD + '{"at_s": true, "data": "x"}\n', "2=True: at_s is the seconds"),
        (HEAD + '{"at_s": "1", "data": "x"}\n', "2='1': at_s is the seconds"),
        (HEAD + '{"at_s": -1, "data": "x"}\n', "2=-1: at_s is the seconds"),
        (HEAD + '{"at_s": NaN, "data": "x"}\n', "2=nan: at_s is the seconds"),
        (HEAD + '{"at_s": 1e10, "data": "x"}\n', "at_s is the seconds"),
        (
            HEAD + '{"at_s": 2, "data": "x"}\n\n{"at_s": 1, "data": "y"}\n',
            "4=1: at_s is before 2, on a line above",
        ),
        (HEAD + '{"at_s": 1}\n', "give data, a string, or json, any value, and not both"),
        (HEAD + '{"at_s": 1, "data": "", "json": 1}\n', "and not both"),
        (HEAD + '{"at_s": 1, "data": 5}\n', "2=5: data is a string"),
        (HEAD + '{"at_s": 1, "json": 1e999}\n', "2=inf: json cannot be written"),
        (HEAD + '{"at_s": 1, "dat": "x"}\n', "nobody knows 'dat'"),
        (HEAD + '{"at_s": 1, "lost": "cut", "data": "x"}\n', "nobody knows 'data'"),
        (HEAD + '{"at_s": 1, "data": "x", "event": ""}\n', "2='': event: an empty name"),
        (HEAD + '{"at_s": 1, "data": "x", "id": "a\\nb"}\n', "2='a\\nb': id: NUL, CR, LF"),
        (HEAD + '{"at_s": 1, "data": "x", "retry": 1.5}\n', "2=1.5: retry: give a whole number"),
        (HEAD + '{"at_s": 1, "data": "\\ud800"}\n', "lone surrogate"),
        (HEAD + '{"at_s": ' + "[" * 100_000 + "\n", "it is not JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_the_line(
    file: Path, content: str, said: str
) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidField) as caught:
        read_recording(file)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value)) < 600


def test_a_line_and_a_file_have_a_longest(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(HEAD + '{"at_s": 1, "data": "' + "x" * 1000 + '"}\n')
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 500)
    with pytest.raises(InvalidField, match="the line is longer than 500 bytes"):
        read_recording(file)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 500)
    with pytest.raises(InvalidField, match="the file is longer than 500 bytes"):
        read_recording(file)
