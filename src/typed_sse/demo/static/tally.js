/**
 * Counts what was missed and what came twice, by the numbers that each sender gives its messages.
 *
 * Knows numbers; trusts neither the server nor the client, and shows nothing.
 */

const MAX_SENDERS = 1000;

/**
 * @typedef {object} Counts What a tally can go on from.
 * @property {number} received
 * @property {number} missed
 * @property {number} twice
 * @property {[sender: string, number: number][]} last
 */

/** The count of one reader, since it has joined. */
export class Tally {
  received = 0;
  missed = 0;
  twice = 0;

  /** @type {Map<string, number>} The last number of each sender, the one heard of latest at the end. */
  #last = new Map();

  /** @param {Counts} [counts] Where it goes on; from nothing by default. */
  constructor(counts) {
    if (counts === undefined) return;
    const { received, missed, twice, last } = counts;
    Object.assign(this, { received, missed, twice });
    this.#last = new Map(last);
  }

  /** @returns {Counts} */
  get counts() {
    const { received, missed, twice } = this;
    return { received, missed, twice, last: [...this.#last] };
  }

  /**
   * Count a message; of each sender, the first one tells only where its numbers start.
   *
   * @param {string} sender
   * @param {number} number
   */
  add(sender, number) {
    const last = this.#last.get(sender);
    this.received += 1;
    if (last !== undefined && number <= last) {
      this.twice += 1;
      return;
    }
    if (last !== undefined) this.missed += number - last - 1;
    this.#last.delete(sender);
    this.#last.set(sender, number);
    if (this.#last.size > MAX_SENDERS) {
      for (const oldest of this.#last.keys()) {
        this.#last.delete(oldest);
        break;
      }
    }
  }

  /** Take the next message of every sender as its first: the room is another one. */
  forget() {
    this.#last.clear();
  }
}
