"""The table of `conformance/reconnect.json`, and what holds whatever happens."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from typed_sse import InvalidField
from typed_sse.reconnect import (
    LONGEST_SILENCE_S,
    LONGEST_WAIT_S,
    Connect,
    Loss,
    Read,
    Reconnector,
    ReconnectPolicy,
    Repeat,
    Stop,
    Wait,
    is_sendable,
)

_TABLE = Path(__file__).parent.parent / "conformance" / "reconnect.json"
CASES: list[dict[str, Any]] = json.loads(_TABLE.read_text(encoding="utf-8"))["cases"]


Decision: TypeAlias = Connect | Read | Wait | Stop | bool | None


def reconnector(case: Mapping[str, Any]) -> Reconnector:
    options = dict(case.get("policy", {}))
    if "retry_statuses" in options:
        options["retry_statuses"] = frozenset(options["retry_statuses"])
    return Reconnector(
        ReconnectPolicy(**options),
        method=case.get("method", "GET"),
        last_event_id=case.get("last_event_id", ""),
        terminal=case.get("terminal", ()),
        random=lambda: case.get("random", 0.5),
    )


def said(decision: Decision) -> object:
    """Return a decision as the table writes it."""
    if decision is None or isinstance(decision, bool):
        return decision
    return {type(decision).__name__.lower(): asdict(decision)}


def take(client: Reconnector, step: Mapping[str, Any]) -> object:
    steps: dict[str, Callable[[], Decision]] = {
        "connect": client.connect,
        "responded": lambda: client.responded(step["status"], step["headers"], step["at_s"]),
        "received": lambda: client.received(
            step["events"], step["last_event_id"], step["retry_ms"]
        ),
        "event": lambda: client.event(step["name"]),
        "ended": lambda: client.ended(step["at_s"]),
        "lost": lambda: client.lost(step["how"], step["at_s"]),
        "may_repeat": lambda: client.may_repeat(unsent=step["unsent"]),
    }
    return said(steps[step["do"]]())


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
def test_a_case_of_the_table_comes_out_as_it_says(case: dict[str, Any]) -> None:
    client = reconnector(case)
    assert [take(client, step) for step in case["steps"]] == [
        step.get("says") for step in case["steps"]
    ]


def test_every_case_has_an_id_of_its_own_and_a_reason() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert [case["id"] for case in CASES if not case["why"]] == []


# --- the policy


@pytest.mark.parametrize("name", ["base_delay_s", "max_delay_s", "jitter", "settled_after_s"])
@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), LONGEST_WAIT_S + 1])
def test_a_policy_refuses_delays_that_are_negative_or_beyond_an_hour(
    name: str, value: float
) -> None:
    with pytest.raises(InvalidField) as refused:
        ReconnectPolicy(**{name: value})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (refused.value.field, refused.value.reason) == (name, "give 0 to 3600")


@pytest.mark.parametrize("name", ["answer_within_s", "idle_limit_s"])
@pytest.mark.parametrize("value", [-1, 0, float("nan"), float("inf"), LONGEST_SILENCE_S + 1])
def test_a_policy_refuses_limits_that_no_timer_holds(name: str, value: float) -> None:
    with pytest.raises(InvalidField, match="up to 86400 seconds, or None") as refused:
        ReconnectPolicy(**{name: value})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert refused.value.field == name


def test_a_policy_takes_each_bound_itself() -> None:
    ReconnectPolicy(base_delay_s=0, max_delay_s=0, jitter=0, settled_after_s=0, max_attempts=1)
    hour, day = LONGEST_WAIT_S, LONGEST_SILENCE_S
    policy = ReconnectPolicy(base_delay_s=hour, max_delay_s=hour, answer_within_s=day)
    assert Reconnector(policy).connect() == Connect("", day)


@pytest.mark.parametrize("max_attempts", [0, -1])
def test_a_policy_refuses_no_attempt_at_all(max_attempts: int) -> None:
    with pytest.raises(InvalidField, match=r"max_attempts=.*: give 1 or more, or None"):
        ReconnectPolicy(max_attempts=max_attempts)


def test_a_policy_refuses_another_word_for_repeat() -> None:
    with pytest.raises(InvalidField, match="give always, resume, unsent or None"):
        ReconnectPolicy(repeat="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_without_a_random_function_waits_differ_within_the_policys_share() -> None:
    client = Reconnector(ReconnectPolicy(max_delay_s=1))
    delays: set[float] = set()
    for _ in range(20):
        client.connect()
        lost = client.lost("unreachable", 0)
        assert isinstance(lost, Wait)
        delays.add(lost.delay_s)
    assert len(delays) > 1
    assert all(1 <= delay_s < 1.5 for delay_s in delays)


# --- whatever a server sends

_HEADERS = ("content-type", "retry-after", "date", "stream-idle-limit", "location")
_TIMES = st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)).map(
    lambda time: format_datetime(time.replace(microsecond=0, tzinfo=UTC), usegmt=True)
)
_TEXTS = (
    st.text()
    | _TIMES
    | st.from_regex(r"[ \t]*[-+]?[0-9]{1,400}(\.[0-9]*)?[ \t]*", fullmatch=True)
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} (Feb|Nov|Dec) [0-9]{4} [0-9:]{8} GMT", fullmatch=True)
    | st.from_regex(r'text/event-stream[";, \\a]*', fullmatch=True)
)
_STATUSES = st.sampled_from((200, 204, 408, 429, 502, 503, 301, 404, 500)) | st.integers()


@given(_STATUSES, st.dictionaries(st.sampled_from(_HEADERS), _TEXTS))
def test_every_head_leads_to_a_decision_that_can_be_obeyed(
    status: int, headers: dict[str, str]
) -> None:
    client = Reconnector(ReconnectPolicy())
    client.connect()
    match client.responded(status, headers, 0):
        case Read(idle_s):
            assert status == 200
            assert idle_s is None or 0 < idle_s <= LONGEST_SILENCE_S
        case Wait(delay_s, reason, failures):
            assert (reason, failures) == ("status", 1)
            assert 1 <= delay_s <= LONGEST_WAIT_S
        case Stop(reason, error):
            assert error is (status != 204)
            assert reason == {200: "content-type", 204: "no-content"}.get(status, "status")


@given(_TIMES, st.integers(-7200, 7200))
def test_a_date_is_waited_for_from_the_answers_own_date(date: str, later_s: int) -> None:
    asked = format_datetime(parsedate_to_datetime(date) + timedelta(seconds=later_s), usegmt=True)
    client = Reconnector(ReconnectPolicy(), random=lambda: 0)
    answer = client.responded(503, {"retry-after": asked, "date": date}, 0)
    assert answer == Wait(min(max(later_s, 1), LONGEST_WAIT_S), "status", 1)


@given(st.text())
def test_an_id_is_sent_only_as_a_header_can_carry_it(id: str) -> None:
    match Reconnector(ReconnectPolicy(), last_event_id=id).connect():
        case Connect(sent):
            assert sent == sent.strip(" \t")
            assert sent in id
            assert is_sendable(id)
            assert not any(char < " " and char != "\t" for char in sent)
            assert len(sent.encode()) <= 8192
        case Stop(reason, error):
            assert (reason, error) == ("unsendable-id", True)
            assert not is_sendable(id)


# --- whatever happens in a row


@dataclass(frozen=True)
class Outcome:
    """What came of one connection, from its head to its end."""

    how: Loss | Literal["ended"] | int
    events: int = 0
    last_event_id: str = ""
    retry_ms: int | None = None
    open_s: float = 0.0

    @property
    def progress(self) -> bool:
        return self.events > 0 or self.open_s >= 10

    @property
    def unsent(self) -> bool:
        return self.how in ("unreachable", 408, 425, 429, 503)

    def happen(self, client: Reconnector) -> Wait | Stop:
        if isinstance(self.how, int):
            refused = client.responded(self.how, {}, 0)
            assert not isinstance(refused, Read)
            return refused
        if self.how not in ("unreachable", "unanswered"):
            head = {"content-type": "text/event-stream"}
            assert client.responded(200, head, 0) == Read(None)
            client.received(self.events, self.last_event_id, self.retry_ms)
        if self.how == "ended":
            return client.ended(self.open_s)
        return client.lost(self.how, self.open_s)


_WITHOUT_BODY: tuple[Loss | int, ...] = (408, 425, 429, 502, 503, 504, "unreachable", "unanswered")
_OUTCOMES = st.builds(Outcome, st.sampled_from(_WITHOUT_BODY)) | st.builds(
    Outcome,
    st.sampled_from(("cut", "idle", "ended")),
    st.integers(0, 2),
    st.sampled_from(("", "7", " ")),
    st.none() | st.integers(0, 10**15 - 1),
    st.floats(0, 20),
)
_POLICIES = st.builds(
    ReconnectPolicy,
    base_delay_s=st.floats(0, LONGEST_WAIT_S),
    max_delay_s=st.floats(0, LONGEST_WAIT_S),
    jitter=st.floats(0, LONGEST_WAIT_S),
    max_attempts=st.none() | st.integers(1, 4),
    repeat=st.sampled_from((None, "always", "resume", "unsent")),
)


@given(_POLICIES, st.sampled_from(("GET", "POST")), st.lists(_OUTCOMES, max_size=12), st.randoms())
def test_a_client_stops_only_at_its_limit_or_where_the_request_may_not_be_repeated(
    policy: ReconnectPolicy, method: str, outcomes: list[Outcome], random: Random
) -> None:
    repeat: Repeat = policy.repeat or ("always" if method == "GET" else "unsent")
    client = Reconnector(policy, method=method, random=random.random)
    in_a_row = 0
    for outcome in outcomes:
        connect = client.connect()
        assert isinstance(connect, Connect)
        decision = outcome.happen(client)

        in_a_row = 1 if outcome.progress else in_a_row + 1
        goes_on = outcome.unsent or repeat == "always"
        goes_on = goes_on or (repeat == "resume" and client.last_event_id == "7")
        spent = policy.max_attempts is not None and in_a_row >= policy.max_attempts
        assert isinstance(decision, Wait) is (goes_on and not spent)
        if isinstance(decision, Stop):
            assert decision.error is not (outcome.how == "ended" and not goes_on)
            return
        assert 0 <= decision.delay_s <= LONGEST_WAIT_S
        assert decision.failures == client.failures == in_a_row


def test_no_number_of_failures_is_too_many_for_the_arithmetic() -> None:
    client = Reconnector(ReconnectPolicy(), random=lambda: 0)
    waits = [client.lost("unreachable", 0) for _ in range(1100)]
    assert waits[-1] == Wait(30, "unreachable", 1100)


@given(_POLICIES, st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=60))
def test_waits_in_a_row_never_shrink_but_by_chance(
    policy: ReconnectPolicy, numbers: list[float]
) -> None:
    steady = replace(policy, max_attempts=None, repeat="always", jitter=0)
    client = Reconnector(steady)
    by_chance = Reconnector(replace(steady, jitter=0.5), random=iter(numbers).__next__)
    least_s = 0.0
    for _ in numbers:
        wait, varied = client.lost("unreachable", 0), by_chance.lost("unreachable", 0)
        assert isinstance(wait, Wait)
        assert isinstance(varied, Wait)
        assert least_s <= wait.delay_s <= varied.delay_s <= min(wait.delay_s * 1.5, LONGEST_WAIT_S)
        least_s = wait.delay_s
