import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from typed_sse import ServerSentEvent
from typed_sse.escaping import escaped, escaped_json
from typed_sse.session import ClientState
from typed_sse.tail import (
    PALETTE,
    SHOWN_CHARACTERS,
    Tally,
    json_line,
    raw_text,
    shown,
    state_line,
    style_of,
)

AT = "12:00:00.000"
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\x7f\u202eevil\u2066\u200f\u2028\U000e0041"
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0041]"
)


def text_of(event: ServerSentEvent, width: int | None = 80) -> str:
    return "".join(text for text, _ in shown(event, AT, width))


@pytest.mark.parametrize(
    ("event", "width", "text"),
    [
        (ServerSentEvent("hello"), 80, f"{AT}  message  hello\n"),
        (ServerSentEvent(""), 80, f"{AT}  message\n"),
        (ServerSentEvent("x", event="tick", id=7), 80, f"{AT}  tick  #7  x\n"),
        (ServerSentEvent("x", event="tick", id=""), 80, f"{AT}  tick  x\n"),
        (ServerSentEvent('{"a":1,"b":[]}'), 80, f'{AT}  message  {{"a": 1, "b": []}}\n'),
        (
            ServerSentEvent('{"a":1,"b":[]}'),
            20,
            f'{AT}  message\n    {{\n      "a": 1,\n      "b": []\n    }}\n',
        ),
        (ServerSentEvent('{"a":1,"b":[2]}'), None, f'{AT}  message  {{"a": 1, "b": [2]}}\n'),
        (ServerSentEvent("one\ntwo\n"), 80, f"{AT}  message\n    one\n    two\n    \n"),
        (ServerSentEvent("one\ntwo"), None, f"{AT}  message\n    one\n    two\n"),
        (ServerSentEvent("x" * 30), 40, f"{AT}  message\n    {'x' * 30}\n"),
        (ServerSentEvent('["a,b:c{", "\\"]"]'), 80, f'{AT}  message  ["a,b:c{{", "\\"]"]\n'),
        (ServerSentEvent("{not json}"), 80, f"{AT}  message  {{not json}}\n"),
        (ServerSentEvent("NaN"), 80, f"{AT}  message  NaN\n"),
        (ServerSentEvent("x", event="n" * 70), None, f"{AT}  {'n' * 63}…  x\n"),
    ],
)
def test_an_event_is_shown_as(event: ServerSentEvent, width: int | None, text: str) -> None:
    assert text_of(event, width) == text


def test_data_that_fits_to_the_last_column_stays_on_the_line() -> None:
    event = ServerSentEvent("[1,2]")
    whole = len(f"{AT}  message  [1, 2]")
    assert text_of(event, whole).count("\n") == 1
    assert text_of(event, whole - 1).count("\n") > 1


@pytest.mark.parametrize(
    "number", ["1e400", "1.10", "-0", "123456789012345678901234567890", "9" * 5000]
)
def test_a_number_is_shown_as_it_was_written(number: str) -> None:
    event = ServerSentEvent(f'{{"n":{number},"n":1}}')
    assert f'{{"n": {number}, "n": 1}}' in text_of(event, None)
    assert f'"data": {{"n": {number}, "n": 1}}' in json_line(event)


def test_more_than_a_terminal_is_good_for_is_cut_and_said() -> None:
    event = ServerSentEvent("[" + "1," * SHOWN_CHARACTERS + "1]")
    text = text_of(event)
    assert len(text) < SHOWN_CHARACTERS + 200
    assert text.endswith("… and 40,003 characters more; --json and --raw have them\n")
    assert len(text_of(event, None)) > SHOWN_CHARACTERS * 2


def test_json_nested_as_deeply_as_can_be_takes_a_bounded_space() -> None:
    data = "[" * 900 + "1" + ",1" * 8000 + "]" * 900
    assert len(text_of(ServerSentEvent(data))) < 1_000_000
    endless = "[" * 100_000 + "]" * 100_000
    assert text_of(ServerSentEvent(endless), None) == f"{AT}  message  {endless}\n"


@pytest.mark.parametrize("data", [HOSTILE, json.dumps({"a": HOSTILE}, ensure_ascii=False)])
def test_nothing_that_a_terminal_obeys_is_in_what_is_shown(data: str) -> None:
    named = re.sub("[\r\u2028]", "", HOSTILE)
    event = ServerSentEvent(data.replace("\r", ""), event=named, id=named)
    for text in (text_of(event), text_of(event, 20), json_line(event), raw_text(event)):
        assert OBEYED.search(text) is None
        assert "evil" in text
    assert "\\x1b[2J\\x1b]0;owned\\x07" in text_of(event)
    assert "\\u202eevil" in text_of(event)
    assert json.loads(json_line(event))["event"] == named


def test_what_is_escaped_is_named_by_its_number() -> None:
    assert (
        escaped("a\tb\nc\x1b\x9b\u202e\U000e0041é👩‍🚀")
        == "a\tb\nc\\x1b\\x9b\\u202e\\U000e0041é👩‍🚀"
    )


@given(st.text())
def test_escaping_json_changes_nothing_that_it_says(text: str) -> None:
    line = escaped_json(json.dumps(text, ensure_ascii=False))
    assert OBEYED.search(line) is None
    assert json.loads(line) == text


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ServerSentEvent("x"), '{"event": "message", "id": null, "data": "x"}'),
        (ServerSentEvent("", id=""), '{"event": "message", "id": "", "data": ""}'),
        (
            ServerSentEvent('{"a":[1,true]}', event="t", id=4, retry=3000),
            '{"event": "t", "id": "4", "data": {"a": [1, true]}, "retry": 3000}',
        ),
        (ServerSentEvent("a\nb"), '{"event": "message", "id": null, "data": "a\\nb"}'),
        (ServerSentEvent("Infinity"), '{"event": "message", "id": null, "data": "Infinity"}'),
    ],
)
def test_an_event_is_a_line_of_json(event: ServerSentEvent, line: str) -> None:
    assert json_line(event) == line


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_line_of_json_has_the_value_that_was_sent(value: object) -> None:
    event = ServerSentEvent(json.dumps(value))
    line = json_line(event)
    assert "\n" not in line
    assert json.loads(line)["data"] == json.loads(json.dumps(value))
    data = "".join(text for text, _ in shown(event, AT, 1)).partition("\n")[2]
    assert json.loads(data) == json.loads(json.dumps(value))


def luminance_of(color: int) -> float:
    levels = (0, 95, 135, 175, 215, 255)
    place = color - 16
    parts = (levels[place // 36], levels[place // 6 % 6], levels[place % 6])
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("style", PALETTE)
def test_a_colour_can_be_read_on_black_and_on_white(style: str) -> None:
    luminance = luminance_of(int(style.removeprefix("color(").removesuffix(")")))
    assert (luminance + 0.05) / 0.05 >= 3
    assert 1.05 / (luminance + 0.05) >= 3


def test_a_name_always_has_the_same_colour_and_names_share_them_all() -> None:
    names = [f"event-{number}" for number in range(100)]
    assert {style_of(name) for name in names} == {f"bold {color}" for color in PALETTE}
    assert style_of("token") == "bold color(64)"


def test_what_a_stream_says_of_itself_stands_out() -> None:
    styles = {style_of(name) for name in ("stream.error", "stream.gap", "stream.end")}
    assert len(styles) == 3
    assert all("reverse" in style for style in styles)


def test_a_wait_is_said_with_its_reason_and_other_states_are_not() -> None:
    assert state_line(ClientState("waiting", "cut", 2.04, 1)) == "reconnecting in 2.0 s: cut"
    third = state_line(ClientState("waiting", "unreachable", 4, 3))
    assert third == "reconnecting in 4.0 s: unreachable (3 attempts in a row)"
    assert state_line(ClientState("open")) == state_line(ClientState("closed", "cut")) == ""


def test_the_status_line_tells_state_count_rate_age_and_id() -> None:
    tally = Tally(now_s=0)
    assert tally.line(0, 80) == "connecting · 0 events"
    tally.state(ClientState("open"), 1)
    for number in range(5):
        tally.event(ServerSentEvent("x", id=number), 1)
    assert tally.line(2.5, 80) == "connected · 5 events · 2.0/s · the last 2 s ago · #4"
    tally.state(ClientState("waiting", "cut", 3, 1), 3)
    assert tally.line(4, 80) == "reconnecting in 2 s · 5 events · 2.0/s · the last 3 s ago · #4"
    assert tally.line(60, 80).startswith("reconnecting in 0 s · 5 events · 0.0/s")


def test_the_status_line_is_no_wider_than_the_terminal_and_harmless() -> None:
    tally = Tally(now_s=0)
    tally.event(ServerSentEvent("x", id="\x1b[2J" + "i" * 10_000), 0)
    assert tally.line(0, 200).startswith("connecting · 1 event · the last 0 s ago · #\\x1b[2Ji")
    assert len(tally.line(0, 200)) < 150
    assert len(tally.line(0, 20)) == 20
