/**
 * Sends what somebody says, one message after the other, each until the server has it.
 *
 * A message whose answer was lost is sent again with the same number, which the server takes once.
 * Knows the room's address; shows nothing.
 */

import { randomHex } from "./random.js";

const MAX_WAITING = 200;
const PATIENCE_MS = 10_000;
const AGAIN_MS = 1000;

/** @typedef {{ name: string, text: string }} Line */

/**
 * The messages of one tab that wait to be sent.
 *
 * Invariants:
 * 1. The number of the first one that waits is one more than that of the last one accepted.
 * 2. At most one request is under way.
 */
export class Outbox {
  /** Who says it, whatever it is called. */
  sender = randomHex(8);

  #accepted = 0;
  /** @type {Line[]} */
  #waiting = [];
  #busy = false;
  #onTrouble;

  /** @param {(trouble: string) => void} onTrouble Hears what is wrong; "" when nothing is. */
  constructor(onTrouble) {
    this.#onTrouble = onTrouble;
  }

  /** @param {readonly Line[]} lines */
  send(lines) {
    if (this.#waiting.length + lines.length > MAX_WAITING) {
      this.#onTrouble(`${MAX_WAITING} messages wait already`);
      return;
    }
    this.#waiting.push(...lines);
    if (!this.#busy) void this.#sendAll();
  }

  async #sendAll() {
    this.#busy = true;
    for (let line = this.#waiting[0]; line; line = this.#waiting[0]) {
      const status = await this.#post(line);
      if (status === 200) {
        this.#accepted += 1;
        this.#waiting.shift();
        this.#onTrouble("");
      } else if (status >= 400 && status < 500) {
        this.#waiting.shift();
        this.#onTrouble(`not sent: the server says ${status}`);
      } else {
        this.#onTrouble("the server does not answer; sending again");
        await new Promise((resume) => setTimeout(resume, AGAIN_MS));
      }
    }
    this.#busy = false;
  }

  /**
   * Return the status of the answer, 0 where there is none.
   *
   * @param {Line} line
   */
  async #post(line) {
    try {
      const answer = await fetch("room/messages", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ sender: this.sender, number: this.#accepted + 1, ...line }),
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      return answer.status;
    } catch {
      return 0;
    }
  }
}
