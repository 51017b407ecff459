"""Charts of results: `python -m bench.chart RESULTS.json OUT.svg [--unit UNIT] [--case WORDS] ...`.

One panel a figure, one bar a rival, the longest fills the width; ours in colour. The picture is
plain SVG, which is readable on light and on dark pages: it asks the reader's browser which it is.
Knows the JSON that `bench.report` writes, and nothing of measuring.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast
from xml.sax.saxutils import escape

WIDTH = 760
LABELS = 250  # where the bars begin
VALUES = 150  # what is kept free behind the longest bar
BAR, GAP, HEAD, FOOT = 16, 6, 58, 20
OURS = "typed-sse"
# Not a rival, and so far away that no other bar would be seen.
LEFT_OUT = ("ceiling",)

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .small { font-size: 11px; fill: #59636e; }
  .bar { fill: #8c959f; }
  .ours { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .small { fill: #9198a1; }
    .bar { fill: #656c76; }
    .ours { fill: #4493f8; }
  }
"""


class Figure(TypedDict):
    """A figure of every rival, as `bench.report` writes it."""

    case: str
    unit: str
    more_is_better: bool
    medians: dict[str, float]


class Results(TypedDict):
    """One run of a question, as `bench.report` writes it."""

    question: str
    date: str
    rounds: int
    machine: dict[str, str]
    versions: dict[str, str]
    titles: dict[str, str]
    figures: list[Figure]


def chart(results: Results, figures: Sequence[Figure]) -> str:
    """Return the SVG of these figures, one below the other."""
    lines: list[str] = []
    top = 0
    for figure in figures:
        lines += panel(figure, results["titles"], top)
        top += HEAD + len(_bars(figure)) * (BAR + GAP) + FOOT
    for note in _notes(results):
        lines.append(_text(0, top, note, "small"))
        top += 15
    shape = f'width="{WIDTH}" height="{top}" viewBox="0 -4 {WIDTH} {top + 4}"'
    title = escape(f"{results['question']}: " + "; ".join(f["case"] for f in figures))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {shape} role="img">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            *lines,
            "</svg>\n",
        ]
    )


def panel(figure: Figure, titles: Mapping[str, str], top: int) -> Iterator[str]:
    """Yield the elements of one figure: each bar with its value, and ours as a multiple of it."""
    bars = _bars(figure)
    longest = max(bars.values(), default=0) or 1
    ours = bars.get(OURS)
    better = "longer is better" if figure["more_is_better"] else "shorter is better"
    yield _text(0, top + 18, f"{figure['case']}", "title")
    yield _text(0, top + 36, f"{figure['unit']}; {better}", "small")
    for place, (name, value) in enumerate(bars.items()):
        y = top + HEAD + place * (BAR + GAP)
        length = max(1, round(value / longest * (WIDTH - LABELS - VALUES)))
        kind = "bar ours" if name.startswith(OURS) else "bar"
        yield _text(LABELS - 8, y + 12, titles.get(name, name), end=True)
        yield (
            f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{length}" height="{BAR}" rx="2"/>'
        )
        said = _number(value)
        if ours and value and not name.startswith(OURS):
            said += f"  ({_multiple(ours / value)})"
        yield _text(LABELS + length + 6, y + 12, said)


def _bars(figure: Figure) -> dict[str, float]:
    """Return the rivals, the best first."""
    bars = {name: value for name, value in figure["medians"].items() if name not in LEFT_OUT}
    best_first = figure["more_is_better"]
    return dict(sorted(bars.items(), key=lambda bar: bar[1], reverse=best_first))


def _notes(results: Results) -> Iterator[str]:
    machine, versions = results["machine"], results["versions"]
    yield (
        f"In parentheses: {OURS} (on plain ASGI) as a multiple of that server. "
        f"Median of {results['rounds']} interleaved, {results['date']}."
    )
    yield (
        f"{machine['processor']}, {machine['cores']} cores, each server pinned to one; "
        f"{machine['system']}; {machine['python']}."
    )
    named = [f"{name} {version}" for name, version in versions.items()]
    half = (len(named) + 1) // 2
    yield ", ".join(named[:half]) + ","
    yield ", ".join(named[half:]) + "."


def _multiple(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio < 10 else f"{ratio:.0f} times"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(x: float, y: float, text: str, kind: str = "", *, end: bool = False) -> str:
    classes = f' class="{kind}"' if kind else ""
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x}" y="{y}"{classes}{anchor}>{escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw results of a benchmark as SVG.")
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--unit", action="append", default=[], help="figures of this unit only")
    parser.add_argument("--case", action="append", default=[], help="cases that begin so only")
    given = parser.parse_args()
    results = cast("Results", json.loads(given.results.read_text(encoding="utf-8")))
    figures = [
        figure
        for figure in results["figures"]
        if (not given.unit or figure["unit"] in given.unit)
        and (not given.case or figure["case"].startswith(tuple(given.case)))
    ]
    if not figures:
        known = sorted({f"{figure['case']}: {figure['unit']}" for figure in results["figures"]})
        raise SystemExit("no such figure; there are:\n" + "\n".join(known))
    given.out.write_text(chart(results, figures), encoding="utf-8")


if __name__ == "__main__":
    main()
