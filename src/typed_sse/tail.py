"""What the terminal client shows of a stream: an event for people, and an event for programs.

Nothing of what a peer has sent is shown unescaped. Knows events and the states of a client; does no
I/O, and knows neither a terminal nor a library for one: what is shown is pieces of text, each with
the name of a style.
"""

import json
import re
import zlib
from collections.abc import Sequence
from typing import TypeAlias

from typed_sse.escaping import escaped, escaped_json
from typed_sse.session import ClientState
from typed_sse.wire import ServerSentEvent

Pieces: TypeAlias = list[tuple[str, str]]
"""Texts, each with its style: `bold`, `dim`, a colour, `reverse`, or nothing."""

SHOWN_CHARACTERS = 20_000
"""What a terminal is shown of one event's data at the most."""

# Mid-tones of the 256 colours: 3 to 1 against black, and against white (tested).
PALETTE = ("color(130)", "color(64)", "color(30)", "color(33)", "color(98)", "color(163)")
_CONTROL_STYLES = {
    "stream.error": "bold reverse red",
    "stream.gap": "bold reverse yellow",
    "stream.end": "bold reverse green",
}
# Of a name or an id, which nobody reads to its end.
_LONGEST_LABEL = 64
_DEEPEST_INDENT = 32

# A string, a mark, or a number or word: of a text that is known to be JSON.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},:]|[^\s\[\]{},:"]++')
_OPENING = frozenset("[{")


def style_of(name: str) -> str:
    """Return an event's style: a control event's own, or the colour that its name always has."""
    if name in _CONTROL_STYLES:
        return _CONTROL_STYLES[name]
    return f"bold {PALETTE[zlib.crc32(name.encode()) % len(PALETTE)]}"


def name_of(event: ServerSentEvent) -> str:
    """Return the name that readers dispatch an event under."""
    return event.event or "message"


def is_control(name: str) -> bool:
    """Whether a stream says something of itself by an event of this name."""
    return name in _CONTROL_STYLES


def shown(event: ServerSentEvent, at: str, width: int | None) -> Pieces:
    """Return an event for people: time, name, id and data, on one line where that fits.

    Data that is JSON is laid out, with every number and string as it was written. What does not fit
    begins on a line of its own, and is indented.

    Args:
        event: as received.
        at: when it came.
        width: of the terminal; data beyond `SHOWN_CHARACTERS` is cut. `None` where there is none:
            then JSON stays on the line, and nothing is cut.
    """
    name = name_of(event)
    pieces = [(at, "dim"), ("  ", ""), (_label(name), style_of(name))]
    if event.id:
        pieces += [("  #", "dim"), (_label(event.id), "dim")]
    data = event.data or ""
    tokens = _json_tokens(data)
    line = data if tokens is None else _on_a_line(tokens)
    left = "" if width is None else _cut_away(line)
    if left:
        line = line[:SHOWN_CHARACTERS]
    line = escaped(line)
    taken = sum(len(text) for text, _ in pieces) + 2
    if line and ("\n" in line or (width is not None and taken + len(line) > width)):
        if tokens is not None and not left:
            line = escaped(_laid_out(tokens))
        pieces.append(("\n    " + line.replace("\n", "\n    "), ""))
    elif line:
        pieces.append((f"  {line}", ""))
    if left:
        pieces.append((f"\n    {left}", "dim"))
    pieces.append(("\n", ""))
    return pieces


def json_line(event: ServerSentEvent) -> str:
    """Return an event for programs: a JSON object without a line end.

    Its members are `event`, the name that readers dispatch; `id`, or null; `data`, as JSON where it
    is JSON, with every number as it was written, and otherwise as a string; and `retry`, where the
    event has one. What a terminal would obey is escaped, as JSON escapes.
    """
    text = event.data or ""
    tokens = _json_tokens(text)
    data = _dumped(text) if tokens is None else _on_a_line(tokens)
    retry = "" if event.retry is None else f', "retry": {event.retry}'
    line = f'"event": {_dumped(name_of(event))}, "id": {_dumped(event.id)}, "data": {data}{retry}'
    return escaped_json(f"{{{line}}}")


def raw_text(event: ServerSentEvent) -> str:
    """Return an event's frame as a terminal may be given it."""
    return escaped(event.encode().decode())


def state_line(state: ClientState) -> str:
    """Return what is said of a state that is no good news; nothing for any other."""
    if state.kind != "waiting" or state.delay_s is None:
        return ""
    tries = "" if state.failures < 2 else f" ({state.failures} attempts in a row)"
    return f"reconnecting in {state.delay_s:.1f} s: {state.reason}{tries}"


class Tally:
    """What the status line says of a stream: its state, how many events, how often, the last one.

    Args:
        now_s: the clock's reading, as in all of its methods.
    """

    def __init__(self, now_s: float) -> None:
        self._words = "connecting"
        self._until_s: float | None = None
        self._events = 0
        self._rate: float | None = None
        self._rated_s = now_s
        self._rated_events = 0
        self._last_s: float | None = None
        self._id = ""

    def event(self, event: ServerSentEvent, now_s: float) -> None:
        """Take an event."""
        self._events += 1
        self._last_s = now_s
        self._id = event.id or ""

    def state(self, state: ClientState, now_s: float) -> None:
        """Take a state."""
        self._words = {"open": "connected", "waiting": "reconnecting"}.get(state.kind, state.kind)
        self._until_s = None if state.delay_s is None else now_s + state.delay_s

    def line(self, now_s: float, width: int) -> str:
        """Return the line, no wider than `width`."""
        if now_s - self._rated_s >= 2:
            self._rate = (self._events - self._rated_events) / (now_s - self._rated_s)
            self._rated_s, self._rated_events = now_s, self._events
        words = self._words
        if self._until_s is not None:
            words += f" in {max(self._until_s - now_s, 0):.0f} s"
        parts = [words, f"{self._events:,} event{'' if self._events == 1 else 's'}"]
        if self._rate is not None:
            parts.append(f"{self._rate:.1f}/s")
        if self._last_s is not None:
            parts.append(f"the last {now_s - self._last_s:.0f} s ago")
        if self._id:
            parts.append(f"#{_label(self._id)}")
        return " · ".join(parts)[:width]


def _label(text: str) -> str:
    cut = text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
    return escaped(cut)


def _cut_away(line: str) -> str:
    more = len(line) - SHOWN_CHARACTERS
    return f"… and {more:,} characters more; --json and --raw have them" if more > 0 else ""


def _dumped(value: str | None) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json_tokens(text: str) -> list[str] | None:
    """Return what a JSON text is made of; `None` where it is none, or nested without end."""
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return _TOKEN.findall(text)


def _refuse(constant: str) -> str:
    raise ValueError(f"{constant} is not JSON")


def _on_a_line(tokens: Sequence[str]) -> str:
    return "".join(f"{token} " if token in (",", ":") else token for token in tokens)


def _laid_out(tokens: Sequence[str]) -> str:
    laid: list[str] = []
    depth = 0
    before = ""
    for token in tokens:
        match token:
            case "]" | "}":
                depth -= 1
                laid.append(token if before in _OPENING else f"{_line_end(depth)}{token}")
            case ",":
                laid.append(f",{_line_end(depth)}")
            case ":":
                laid.append(": ")
            case _:
                if before in _OPENING:
                    laid.append(_line_end(depth))
                depth += token in _OPENING
                laid.append(token)
        before = token
    return "".join(laid)


def _line_end(depth: int) -> str:
    return "\n" + "  " * min(depth, _DEEPEST_INDENT)
