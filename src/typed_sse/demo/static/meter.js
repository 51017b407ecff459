/**
 * How fast events come. Knows times and counts; reads no clock and shows nothing.
 */

const WINDOW_S = 5;
// The first event opens the first second a little late, so that one that comes every second and a
// few milliseconds early is not counted twice in it.
const LEAD_MS = 100;

/**
 * The mean rate over the last whole seconds since the first event, five at most.
 *
 * Whole seconds, because a fraction of one would make a steady stream look unsteady.
 */
export class Rate {
  /** @type {number | undefined} */
  #startMs = undefined;
  #second = 0;
  /** Events of each second, oldest first; the last one is not over yet. */
  #counts = [0];

  /** @param {number} nowMs */
  add(nowMs) {
    this.#startMs ??= nowMs - LEAD_MS;
    this.#advance(nowMs);
    this.#counts[this.#counts.length - 1] += 1;
  }

  /**
   * Return the events per second, or `undefined` before the first second is over.
   *
   * @param {number} nowMs
   */
  perSecond(nowMs) {
    this.#advance(nowMs);
    const whole = this.#counts.slice(0, -1);
    if (whole.length === 0) return undefined;
    return whole.reduce((sum, count) => sum + count) / whole.length;
  }

  /** @param {number} nowMs */
  #advance(nowMs) {
    if (this.#startMs === undefined) return;
    const second = Math.floor((nowMs - this.#startMs) / 1000);
    const passed = Math.min(second - this.#second, WINDOW_S + 1);
    for (let i = 0; i < passed; i += 1) this.#counts.push(0);
    while (this.#counts.length > WINDOW_S + 1) this.#counts.shift();
    this.#second = second;
  }
}
