/**
 * How fast events come. Knows times and counts; reads no clock and shows nothing.
 */

const WINDOW_S = 5;
const HISTORY_S = 60;
// The first event opens the first second a little late, so that one that comes every second and a
// few milliseconds early is not counted twice in it.
const LEAD_MS = 100;

/**
 * The mean rate over the last whole seconds since the first event, five at most; and what came in
 * each of the last sixty.
 *
 * Whole seconds, because a fraction of one would make a steady stream look unsteady.
 */
export class Rate {
  /** @type {number | undefined} */
  #startMs = undefined;
  #second = 0;
  /** Events of the second that is not over yet. */
  #current = 0;
  /** @type {number[]} Events of each whole second, oldest first. */
  #whole = [];

  /** @param {number} nowMs */
  add(nowMs) {
    this.#startMs ??= nowMs - LEAD_MS;
    this.#advance(nowMs, this.#startMs);
    this.#current += 1;
  }

  /**
   * Return the events per second, or `undefined` before the first second is over.
   *
   * @param {number} nowMs
   */
  perSecond(nowMs) {
    if (this.#startMs === undefined) return undefined;
    this.#advance(nowMs, this.#startMs);
    const recent = this.#whole.slice(-WINDOW_S);
    if (recent.length === 0) return undefined;
    return recent.reduce((sum, count) => sum + count) / recent.length;
  }

  /**
   * Return the events of each whole second since the first event, sixty at most, oldest first.
   *
   * @param {number} nowMs
   * @returns {readonly number[]}
   */
  history(nowMs) {
    if (this.#startMs !== undefined) this.#advance(nowMs, this.#startMs);
    return this.#whole;
  }

  /**
   * @param {number} nowMs
   * @param {number} startMs
   */
  #advance(nowMs, startMs) {
    const second = Math.floor((nowMs - startMs) / 1000);
    // After a long sleep all of them are empty, and more zeros would change nothing.
    for (let left = Math.min(second - this.#second, HISTORY_S + 1); left > 0; left -= 1) {
      this.#whole.push(this.#current);
      this.#current = 0;
    }
    this.#whole = this.#whole.slice(-HISTORY_S);
    this.#second = second;
  }
}
