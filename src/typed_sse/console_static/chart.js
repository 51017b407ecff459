/**
 * Draws how many events came in each of the last sixty seconds. Knows SVG; counts nothing.
 */

const SECONDS = 60;
const HEIGHT = 24;
const GAP = 0.2;

/**
 * Draw a bar for each second, the newest at the right, the tallest as high as the chart.
 *
 * @param {SVGElement} svg Has one `path`, and a `viewBox` of 60 by 24.
 * @param {readonly number[]} perSecond Oldest first.
 */
export function drawRate(svg, perSecond) {
  const peak = Math.max(1, ...perSecond);
  const bars = perSecond.map((count, at) => {
    const left = SECONDS - perSecond.length + at + GAP / 2;
    // What came at all is to be seen.
    const height = count === 0 ? 0 : Math.max((count / peak) * HEIGHT, 1);
    return height === 0 ? "" : `M${left} ${HEIGHT}v${-height}h${1 - GAP}v${height}z`;
  });
  svg.querySelector("path")?.setAttribute("d", bars.join("") || "M0 0");
  const now = perSecond.at(-1) ?? 0;
  svg.setAttribute(
    "aria-label",
    `Events per second over the last minute: now ${now}, at most ${Math.max(0, ...perSecond)}`,
  );
}
