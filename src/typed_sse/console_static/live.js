/**
 * A stream that is open, and what has come of it: the connection, the list of events, the bytes,
 * the counts and the chart.
 *
 * Owns the one connection of its operation. Events are kept in a record as they come; the page
 * follows ten times a second, so that a flood costs the same as a trickle.
 */

import { drawRate } from "./chart.js";
import { Chips } from "./chips.js";
import { readStream } from "./connection.js";
import { showEvent, showRefusal, statusLine } from "./detail.js";
import { LongList } from "./list.js";
import { Rate } from "./meter.js";
import { MAX_ENTRIES, Record, isOdd } from "./record.js";
import { forFetch } from "./request.js";
import { EventStreamParser, EventTooLarge } from "./sse.js";
import { tieTabs } from "./tabs.js";
import { part } from "./template.js";
import { BoundedText, counted, duration, rateText, textElement } from "./text.js";

/**
 * @typedef {"idle" | "connecting" | "open" | "ended" | "failed"} State
 * @typedef {import("./record.js").Entry} Entry
 */

const MAX_EVENT_CHARS = 1024 * 1024;
const MAX_PREVIEW_CHARS = 300;
const MAX_PENDING_CHARS = 256 * 1024;
const REFRESH_MS = 100;
const RATE_MS = 1000;
const SPOKEN_MS = 3000;
const ERROR_EVENT = "stream.error";

/**
 * Shows what comes of one operation.
 *
 * Invariants:
 * 1. `#connection` is set from a connect until its outcome is shown, and only then; so there is at
 *    most one reader.
 * 2. The rate's timer runs exactly as long; the refresh's only while something waits to be shown.
 */
export class Live {
  #root;
  #operation;
  #ask;
  #onState;
  #tags;
  #record;
  #list;
  #raw;
  #chips;
  /** @type {AbortController | undefined} */
  #connection = undefined;
  #rate = new Rate();
  #lastEventId = "";
  /** @type {number | undefined} */
  #retryMs = undefined;
  #lastMs = 0;
  #bytes = 0;
  /** What the stream has said of its failure. */
  #failure = "";
  /** Text that has come and is not on the page yet. */
  #pending = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #refresh = undefined;
  #spoken = { atMs: 0, events: 0 };

  /**
   * @param {HTMLElement} root The operation's article.
   * @param {import("./document.js").Operation} operation
   * @param {object} owner
   * @param {import("./schema.js").Schemas} owner.schemas
   * @param {import("./tags.js").Tags} owner.tags
   * @param {string} owner.prefix Of the ids of its elements.
   * @param {(lastEventId: string) => import("./curl.js").StreamRequest | undefined} owner.ask
   *   Returns what is to be sent; nothing if the form is not complete.
   * @param {(state: State) => void} owner.onState
   */
  constructor(root, operation, { schemas, tags, prefix, ask, onState }) {
    this.#root = root;
    this.#operation = operation;
    this.#ask = ask;
    this.#onState = onState;
    this.#tags = tags;
    this.#record = new Record(operation.events, schemas);
    const box = this.#part("list");
    box.id = `${prefix}-list`;
    this.#list = new LongList(
      box,
      (/** @type {Entry} */ entry) => this.#row(entry),
      (entry) => showEvent(this.#part("detail"), entry, tags),
    );
    this.#raw = new BoundedText(this.#part("raw"));
    const odd = part(root, "odd", HTMLButtonElement);
    this.#chips = new Chips(odd, tags, (names, onlyOdd) => {
      this.#record.filter(names, onlyOdd);
      this.show();
    });
    tieTabs(
      ["events", "raw"].map((name) => ({
        handle: this.#part(`${name}-tab`),
        page: this.#part(`${name}-page`),
      })),
      prefix,
    );
    this.#listen();
    this.#showState("idle", "not connected");
    this.show();
  }

  /** Open the stream anew, unless it is open. */
  connect() {
    return this.#open("");
  }

  /** Open the stream after the last id that has come, and keep what is there. */
  resume() {
    return this.#lastEventId === "" ? undefined : this.#open(this.#lastEventId);
  }

  /** Close the stream, if it is open. */
  disconnect() {
    this.#connection?.abort();
  }

  /** Leave what is shown as it is, or go on; the stream is read all the same. */
  togglePause() {
    this.#record.hold(!this.#record.isHeld);
    const pause = this.#part("pause");
    pause.setAttribute("aria-pressed", String(this.#record.isHeld));
    if (!this.#record.isHeld) this.#list.follow();
    this.show();
  }

  /** Forget what has come. The last id stays known: the stream is still where it was. */
  clear() {
    this.#record.clear();
    this.#raw.clear();
    this.#pending = "";
    this.#bytes = 0;
    this.#rate = new Rate();
    this.#spoken = { atMs: 0, events: 0 };
    this.#list.select(undefined);
    showRefusal(this.#part("refusal"), undefined);
    this.show();
  }

  /** Bring the page up to what has come. */
  show() {
    clearTimeout(this.#refresh);
    this.#refresh = undefined;
    this.#showRaw();
    this.#list.show(this.#record.shown, this.#record.shownDropped);
    const refused = !this.#part("refusal").hidden;
    this.#part("list-box").hidden = refused && this.#record.events === 0;
    this.#part("empty").hidden = this.#record.shown.length > 0;
    this.#showCounts();
    this.#chips.show(this.#record.counts, this.#record.odd);
  }

  /** @param {string} lastEventId */
  async #open(lastEventId) {
    if (this.#connection) return;
    const request = this.#ask(lastEventId);
    if (request === undefined) return;
    this.#connection = new AbortController();
    if (lastEventId === "") {
      this.#lastEventId = "";
      if (this.#record.isHeld) this.togglePause();
      this.clear();
    } else {
      showRefusal(this.#part("refusal"), undefined);
      this.#record.note(`resumed after id ${lastEventId}`);
    }
    this.#failure = "";
    this.#lastMs = performance.now();
    this.#list.follow();
    this.#showState("connecting", "connecting");
    const ticks = setInterval(() => this.#tick(), RATE_MS);
    try {
      await this.#read(request, this.#connection.signal);
    } finally {
      clearInterval(ticks);
      this.#connection = undefined;
      this.#showButtons();
      this.show();
    }
  }

  /**
   * @param {import("./curl.js").StreamRequest} request
   * @param {AbortSignal} signal
   */
  async #read(request, signal) {
    const parser = new EventStreamParser((event) => this.#take(event), {
      maxEventChars: MAX_EVENT_CHARS,
      lastEventId: this.#lastEventId,
    });
    // With the BOM, if there is one: the raw view leaves nothing out.
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    let open = false;
    try {
      const outcome = await readStream(forFetch(request), signal, {
        onOpen: () => {
          open = true;
          this.#showState("open", "open");
        },
        onBytes: (bytes) => {
          this.#bytes += bytes.length;
          this.#pending += decoder.decode(bytes, { stream: true });
          // A page in the background is seldom brought up to date.
          if (this.#pending.length > MAX_PENDING_CHARS) this.#showRaw();
          if (open) parser.push(bytes);
          this.#retryMs = parser.retryMs;
          this.#refresh ??= setTimeout(() => this.show(), REFRESH_MS);
        },
      });
      this.#showOutcome(outcome);
    } catch (error) {
      if (!(error instanceof EventTooLarge)) throw error;
      this.#end("failed", `given up: ${error.message}`);
    } finally {
      this.#lastEventId = parser.lastEventId;
    }
  }

  /** @param {import("./sse.js").StreamEvent} event */
  #take(event) {
    const nowMs = performance.now();
    this.#record.add(event, nowMs, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.#rate.add(nowMs);
    if (event.name === ERROR_EVENT) this.#failure = messageOf(event.data);
  }

  #tick() {
    this.show();
    const nowMs = performance.now();
    const news = this.#record.events - this.#spoken.events;
    if (news <= 0 || this.#record.isHeld || nowMs - this.#spoken.atMs < SPOKEN_MS) return;
    this.#spoken = { atMs: nowMs, events: this.#record.events };
    this.#say(counted(news, "new event"));
  }

  /** @param {string} text For those who listen to the page. */
  #say(text) {
    const log = this.#part("spoken");
    log.append(textElement("p", "", text));
    if (log.childElementCount > 3) log.firstElementChild?.remove();
  }

  /** @param {import("./connection.js").Outcome} outcome */
  #showOutcome(outcome) {
    switch (outcome.kind) {
      case "ended":
        if (this.#failure) this.#end("failed", `failed: ${this.#failure}`);
        else this.#end("ended", "ended by the server");
        break;
      case "stopped":
        this.#end("idle", "disconnected");
        break;
      case "lost":
        this.#end("failed", "connection lost");
        break;
      case "unreachable":
        this.#end("failed", "server not reached");
        break;
      case "refused":
        this.#end(
          "failed",
          `${outcome.status >= 400 ? "refused" : "no stream"}: ${statusLine(outcome)}`,
        );
        showRefusal(this.#part("refusal"), outcome);
        break;
    }
  }

  /**
   * @param {State} state
   * @param {string} text
   */
  #end(state, text) {
    this.#record.note(text);
    this.#showState(state, text);
  }

  /**
   * @param {State} state
   * @param {string} text
   */
  #showState(state, text) {
    this.#root.dataset.state = state;
    this.#part("state").textContent = text;
    this.#onState(state);
    this.#showButtons();
  }

  #showRaw() {
    if (this.#pending !== "") this.#raw.append(this.#pending);
    this.#pending = "";
  }

  #showButtons() {
    const connect = part(this.#root, "connect", HTMLButtonElement);
    const disconnect = part(this.#root, "disconnect", HTMLButtonElement);
    const resume = part(this.#root, "resume", HTMLButtonElement);
    const busy = this.#connection !== undefined;
    const focused = document.activeElement;
    connect.disabled = busy;
    disconnect.disabled = !busy;
    resume.hidden = busy || this.#lastEventId === "";
    this.#part("resume-id").textContent = this.#lastEventId;
    this.#part("no-resume").hidden = resume.hidden || this.#operation.resumable;
    // A button that is disabled or gone drops the focus, and the keyboard's place with it.
    if (busy && (focused === connect || focused === resume)) disconnect.focus();
    if (!busy && focused === disconnect) connect.focus();
  }

  #showCounts() {
    const nowMs = performance.now();
    const { events, dropped } = this.#record;
    const rate = this.#connection && this.#rate.perSecond(nowMs);
    this.#part("counts").textContent = [
      counted(events, "event"),
      counted(this.#bytes, "byte") + (this.#raw.dropped ? " (last 64 Ki shown)" : ""),
      ...(rate === undefined ? [] : [rateText(rate)]),
      ...(this.#retryMs === undefined ? [] : [`retry ${duration(this.#retryMs)}`]),
      ...(this.#record.isHeld ? ["paused"] : []),
    ].join(" · ");
    const note = this.#part("dropped");
    note.hidden = dropped === 0;
    note.textContent =
      `${counted(dropped, "older event")} dropped; the last ` +
      `${MAX_ENTRIES.toLocaleString("en")} at most are kept.`;
    const svg = this.#root.querySelector("svg");
    if (svg) drawRate(svg, this.#rate.history(nowMs));
  }

  /**
   * Return what a row of the list has in it.
   *
   * @param {Entry} entry
   * @returns {Node[]}
   */
  #row(entry) {
    if (entry.kind === "note") return [textElement("span", "remark", entry.text)];
    const name = textElement("span", "name");
    name.append(this.#tags.tag(entry.name));
    if (isOdd(entry)) {
      const mark = textElement("span", "odd-mark", "!");
      mark.title = entry.known ? "does not fit its schema" : "not declared";
      mark.append(textElement("span", "unseen", ` ${mark.title}`));
      name.append(mark);
    }
    return [
      name,
      textElement("span", "data", entry.data.slice(0, MAX_PREVIEW_CHARS)),
      textElement("span", "id", entry.id),
      textElement("span", "since", duration(entry.sinceMs)),
    ];
  }

  #listen() {
    part(this.#root, "disconnect", HTMLElement).addEventListener("click", () => this.disconnect());
    this.#part("resume").addEventListener("click", () => void this.resume());
    this.#part("pause").addEventListener("click", () => this.togglePause());
    this.#part("clear").addEventListener("click", () => this.clear());
    this.#part("close-detail").addEventListener("click", () => {
      this.#list.select(undefined);
      this.#part("list").focus();
    });
  }

  /** @param {string} name */
  #part(name) {
    return part(this.#root, name, HTMLElement);
  }
}

/** @param {string} data Of an event that tells of a failure. */
function messageOf(data) {
  try {
    return String(JSON.parse(data)?.message ?? "the stream says no more");
  } catch {
    return "the stream says no more";
  }
}
