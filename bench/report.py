"""Rounds, medians, ratios, targets: from measurements to a table and to JSON.

Rivals take turns, round by round, so that whatever the machine does in the meantime meets all of
them. A ratio is ours divided by the rival's, of medians of one run; absolute figures mean little
beyond the run. Knows nothing of processes.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import field as entrants
from bench.field import CEILING, FANOUT, LIKE, OURS, SERVERS, TITLES, Field, Rival

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Figure:
    """One thing that is measured of every rival.

    Attributes:
        case: the situation, and the server where there are several.
        unit: what is counted.
        more_is_better: of two medians, the larger wins.
        targets: rival -> the ratio that is to be reached; at least, or at most where less is
            better.
        limit: what our own figure is to be at most, where that is the target.
    """

    case: str
    unit: str
    more_is_better: bool
    targets: Mapping[str, float] = field(default_factory=dict[str, float], compare=False)
    limit: float | None = None


# How much of its core each side has used, in every case: figures beside the others.
CLIENT = "% of the client's core"
SERVER = "% of the server's core"

Measured = Mapping[Figure, float]


@dataclass(frozen=True)
class Result:
    """A figure of every rival, round by round."""

    figure: Figure
    rounds: Mapping[str, Sequence[float]]

    @property
    def medians(self) -> dict[str, float]:
        """One figure a rival."""
        return {name: statistics.median(values) for name, values in self.rounds.items()}


@dataclass(frozen=True)
class Options:
    """What is asked for on the command line; see `options`."""

    quick: bool
    by_cpu: bool
    rounds: int
    field: Field
    rivals: list[Rival]


def options(description: str, rounds: int, field: Field = SERVERS) -> Options:
    """Read the command line of one question."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="one round, short windows")
    parser.add_argument("--rounds", type=int, help=f"{rounds} by default")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these rivals alone")
    if field in (SERVERS, FANOUT):
        parser.add_argument(
            "--by-cpu",
            action="store_true",
            help="show rates by CPU second of the server: for a machine that does other work too",
        )
    else:
        parser.set_defaults(by_cpu=False)
    given = parser.parse_args()
    names = [name for name in given.only.split(",") if name]
    default = 1 if given.quick else rounds
    rivals = entrants.at_hand(field, names)
    return Options(given.quick, given.by_cpu, given.rounds or default, field, rivals)


def take_turns(
    rivals: Sequence[Rival], rounds: int, measure: Callable[[Rival], Measured]
) -> list[Result]:
    """Measure every rival once a round; return the figures in the order in which they came."""
    collected: dict[Figure, dict[str, list[float]]] = {}
    for number in range(1, rounds + 1):
        # Each round begins with another rival, so that none always follows the same one.
        for rival in (*rivals[number - 1 :], *rivals[: number - 1]):
            print(f"round {number} of {rounds}: {rival.title}", flush=True)
            for figure, value in measure(rival).items():
                collected.setdefault(figure, {}).setdefault(rival.name, []).append(value)
    order = {rival.name: place for place, rival in enumerate(rivals)}
    return [
        Result(figure, dict(sorted(by_rival.items(), key=lambda item: order[item[0]])))
        for figure, by_rival in collected.items()
    ]


def show(results: Iterable[Result]) -> None:
    """Print one table a figure."""
    for result in results:
        print("\n" + "\n".join(table(result)))


def table(result: Result) -> list[str]:
    """Return the lines of a figure's table: ratios first."""
    figure, medians = result.figure, result.medians
    ours = [rival.name for rival in OURS if rival.name in medians]
    bound = "at least" if figure.more_is_better else "at most"
    # Alone, ours needs no telling where it runs.
    heads = "".join(f"{_WITHIN[name] if ours[1:] else TITLES[name]:>12}" for name in ours)
    rows = [
        f"{figure.case}: {figure.unit}",
        f"{'ratios: ours ÷ theirs':38}{heads}  {'target':<14}{'median':>12}  lowest - highest",
    ]
    for name, median in medians.items():
        target = figure.targets.get(name, figure.targets.get(LIKE[name]))
        ratios = [medians[mine] / median if median else float("inf") for mine in ours]
        cells = "".join(f"{_with_verdict(ratio, target, figure):>12}" for ratio in ratios)
        aim = "" if target is None else f"{bound} {target:g}"
        if name in ours and figure.limit is not None:
            reached = "ok" if median <= figure.limit else "--"
            aim = f"<= {figure.limit:g} {reached}"
        values = result.rounds[name]
        spread = f"{_number(min(values))} - {_number(max(values))}"
        rows.append(f"{TITLES[name]:38}{cells}  {aim:<14}{_number(median):>12}  {spread}")
    return rows


# Where each of ours runs: the likes of the rivals are in different frames.
_WITHIN = {
    "typed-sse": "plain ASGI",
    "typed-sse-starlette": "Starlette",
    "typed-sse-fastapi": "FastAPI",
}


def _with_verdict(ratio: float, target: float | None, figure: Figure) -> str:
    if target is None:
        return f"{ratio:.2f}   "
    return f"{ratio:.2f} {'ok' if _reached(ratio, target, figure) else '--'}"


def _reached(ratio: float, target: float, figure: Figure) -> bool:
    return ratio >= target if figure.more_is_better else ratio <= target


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def short_of(results: Iterable[Result], reasons: Mapping[str, str]) -> Iterator[str]:
    """Say what does not reach its target, by how much, and why; `reasons` by rival, or by unit."""
    for result in results:
        figure, medians = result.figure, result.medians
        mine = medians.get(OURS[0].name)
        if mine is None:
            continue
        if figure.limit is not None and mine > figure.limit:
            why = reasons.get(figure.unit, UNEXPLAINED)
            yield f"{figure.case}, {figure.unit}: {_number(mine)}, not {figure.limit:g}. {why}"
        for name, target in figure.targets.items():
            theirs = medians.get(name)
            if theirs and not _reached(mine / theirs, target, figure):
                why = reasons.get(name, UNEXPLAINED)
                ratio = f"{mine / theirs:.2f}, not {target:g}"
                yield f"{figure.case}, beside {TITLES[name]}: {ratio}. {why}"


UNEXPLAINED = "Nobody has said why: find out."


def how_busy(results: Sequence[Result], *, saturated: bool) -> Iterable[str]:
    """Say whether the client, or other work on the machine, may have been the limit."""
    shares = {
        unit: [
            (median, f"{TITLES[name]}; {result.figure.case}")
            for result in results
            if result.figure.unit == unit
            for name, median in result.medians.items()
            if name != CEILING.name
        ]
        for unit in (CLIENT, SERVER)
    }
    if shares[CLIENT]:
        share, case = max(shares[CLIENT])
        yield f"the client used at most {share:.0f} % of its core ({case})"
    if saturated and shares[SERVER]:
        share, case = min(shares[SERVER])
        yield f"each server had at least {share:.0f} % of its core ({case})"


def write(question: str, given: Options, results: Sequence[Result]) -> Path:
    """Write everything to `results/<question>.json`, also what the tables leave out."""
    if given.quick:
        question += "-quick"
    path = RESULTS / f"{question}.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "question": question,
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": given.rounds,
        "machine": entrants.machine(),
        "versions": entrants.versions(given.field),
        "titles": {rival.name: rival.title for rival in given.rivals},
        "figures": [
            {**asdict(result.figure), "medians": result.medians, "rounds": result.rounds}
            for result in results
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def finish(
    question: str,
    given: Options,
    results: Sequence[Result],
    shown: Sequence[str],
    *,
    reasons: Mapping[str, str] | None = None,
    saturated: bool = True,
) -> None:
    """Print the tables of the units in `shown`, what ran where, and write the JSON.

    `reasons` says, by rival, why a target is missed that is known to be; `saturated`, that the
    servers are to use all of their core.
    """
    told = [result for result in results if result.figure.unit in shown]
    show(told)
    if short := list(short_of(told, reasons or {})):
        print("\nshort of the target:", *short, sep="\n")
    versions = entrants.versions(given.field)
    print("\n" + ", ".join(f"{name} {version}" for name, version in versions.items()))
    print(", ".join(entrants.machine().values()))
    for line in how_busy(results, saturated=saturated):
        print(line)
    print(f"written: {write(question, given, results)}")
