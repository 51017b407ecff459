/**
 * Turns the bytes of an event stream into events, however they are cut.
 *
 * The only file that knows what a line end means. It knows nothing of fetch, time, JSON or the
 * page.
 *
 * Source: WHATWG HTML, "Server-sent events", sections 9.2.5 (parsing) and 9.2.6 (interpreting).
 */

/**
 * @typedef {object} StreamEvent
 * @property {string} name `message` where the stream gives none.
 * @property {string} data
 * @property {string} id The last id up to here, also where this event has none of its own; `""`
 *   when there was none.
 */

/** An event is larger than the limit that the reader of the stream has set. */
export class EventTooLarge extends Error {
  /** @param {number} limitChars */
  constructor(limitChars) {
    super(`an event is over the limit of ${limitChars.toLocaleString("en")} characters`);
    this.name = "EventTooLarge";
    this.limitChars = limitChars;
  }
}

const LINE_END = /\r\n?|\n/g;

/**
 * An incremental parser: bytes in, events out.
 *
 * Time is linear in the bytes pushed, also for one line in one-byte chunks. What the stream leaves
 * unfinished at its end is never dispatched. The parser cannot be used after `EventTooLarge`.
 *
 * Invariants:
 * 1. `#line` holds the pieces of the unfinished line, and no piece has a CR or LF.
 * 2. `#afterCr` says that the last character was a CR, already taken for a line end.
 * 3. `#eventChars` counts everything since the last blank line, the unfinished line included.
 */
export class EventStreamParser {
  /** The last id that an event, dispatched or not, has set. */
  lastEventId = "";
  /** @type {number | undefined} The last valid `retry`, in milliseconds. */
  retryMs = undefined;

  #onEvent;
  #maxEventChars;
  // Drops one BOM at the start and turns broken UTF-8 into U+FFFD, as the standard asks.
  #decoder = new TextDecoder();
  #afterCr = false;
  /** @type {string[]} */
  #line = [];
  /** @type {string[]} */
  #data = [];
  #name = "";
  #id = "";
  #eventChars = 0;

  /**
   * @param {(event: StreamEvent) => void} onEvent Called in the order of the wire, within `push`.
   * @param {object} [options]
   * @param {number} [options.maxEventChars] The most characters of one event, from its first to the
   *   last before its blank line; 16 Mi by default.
   * @param {string} [options.lastEventId] The last id of the stream that this one continues.
   */
  constructor(onEvent, { maxEventChars = 16 * 1024 * 1024, lastEventId = "" } = {}) {
    this.#onEvent = onEvent;
    this.#maxEventChars = maxEventChars;
    this.#id = this.lastEventId = lastEventId;
  }

  /**
   * Take the next bytes, and dispatch the events that they complete.
   *
   * @param {Uint8Array} bytes
   * @throws {EventTooLarge} After the events that were complete before it.
   */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    // The CR before was perhaps the first half of a CRLF.
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = text.endsWith("\r");
    let start = 0;
    for (const { 0: lineEnd, index } of text.matchAll(LINE_END)) {
      this.#keep(text.slice(start, index));
      this.#finishLine();
      start = index + lineEnd.length;
    }
    this.#keep(text.slice(start));
  }

  /** @param {string} piece */
  #keep(piece) {
    if (piece === "") return;
    this.#eventChars += piece.length;
    if (this.#eventChars > this.#maxEventChars) throw new EventTooLarge(this.#maxEventChars);
    this.#line.push(piece);
  }

  #finishLine() {
    const line = this.#line.join("");
    this.#line = [];
    if (line === "") {
      this.#dispatch();
      return;
    }
    this.#eventChars += 1;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    this.#take(field, value);
  }

  /**
   * @param {string} field Empty for a comment, which no case takes.
   * @param {string} value
   */
  #take(field, value) {
    switch (field) {
      case "data":
        this.#data.push(value);
        break;
      case "event":
        this.#name = value;
        break;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        break;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.retryMs = Number(value);
        break;
    }
  }

  #dispatch() {
    const data = this.#data;
    const name = this.#name || "message";
    this.#data = [];
    this.#name = "";
    this.#eventChars = 0;
    this.lastEventId = this.#id;
    if (data.length > 0) this.#onEvent({ name, data: data.join("\n"), id: this.lastEventId });
  }
}
