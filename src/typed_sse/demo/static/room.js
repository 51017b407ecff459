/**
 * The room on the page: who says what, and whether anything was missed or came twice.
 *
 * Owns one native EventSource. What that does by itself, reconnecting with the last id, is left to
 * it; only where it has given up is another one made.
 */

import { part } from "./docs/events/template.js";
import { textElement } from "./docs/events/text.js";
import { Outbox } from "./outbox.js";
import { randomHex } from "./random.js";
import { Tally } from "./tally.js";

const SHOWN = 500;
const AT_ONCE = 20;
const RETRY_MS = 3000;
// So many messages from before are shown to who joins.
const START = "-50";
const NAMES = ["Ada", "Alan", "Barbara", "Edsger", "Grace", "Hedy", "Radia", "Vint"];

/**
 * Invariants:
 * 1. `#source` or `#retry` is set from `join` to `leave`, never both.
 * 2. `#lastId` is the id of the last event shown, as the browser sends it when it comes back.
 */
export class Room {
  #root;
  /** @type {EventSource | undefined} */
  #source = undefined;
  /** @type {number | undefined} */
  #retry = undefined;
  #reader = randomHex(16);
  #lastId = "";
  #gaps = 0;
  #cuts = 0;
  #robots = 0;
  #tally = new Tally();
  #outbox = new Outbox((trouble) => {
    this.#trouble.textContent = trouble;
  });

  #name;
  #text;
  #log;
  #trouble;
  /** @type {Record<"join" | "leave" | "say" | "many" | "cut", HTMLButtonElement>} */
  #buttons;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    this.#name = part(root, "name", HTMLInputElement);
    this.#text = part(root, "text", HTMLInputElement);
    this.#log = part(root, "log", HTMLOListElement);
    this.#trouble = part(root, "trouble", HTMLElement);
    const button = (/** @type {string} */ name) => part(root, name, HTMLButtonElement);
    this.#buttons = {
      join: button("join"),
      leave: button("leave"),
      say: button("say"),
      many: button("many"),
      cut: button("cut"),
    };
    this.#name.value = NAMES[Math.floor(Math.random() * NAMES.length)] ?? "";
    this.#listen();
    this.#showState("idle", "not joined");
    this.#showFacts();
  }

  join() {
    if (this.#source ?? this.#retry) return;
    this.#log.replaceChildren();
    this.#tally = new Tally();
    this.#gaps = this.#cuts = 0;
    this.#lastId = "";
    this.#show("worker", "–");
    this.#showFacts();
    this.#showState("connecting", "joining");
    this.#connect();
  }

  leave() {
    this.#source?.close();
    clearTimeout(this.#retry);
    this.#source = this.#retry = undefined;
    this.#showState("idle", "left");
  }

  #connect() {
    const url = new URL("room", location.href);
    url.searchParams.set("reader", this.#reader);
    // Only for the first connection: the header of one that comes back has the newer id.
    url.searchParams.set("last_event_id", this.#lastId || START);
    const source = new EventSource(url);
    this.#retry = undefined;
    this.#source = source;
    source.addEventListener("open", () => this.#showState("open", "connected"));
    source.addEventListener("error", () => this.#failed(source));
    /** @type {[string, (data: Record<string, unknown>) => void][]} */
    const shown = [
      ["served", (data) => this.#served(data)],
      ["said", (data) => this.#said(data)],
      ["stream.gap", (data) => this.#gap(data)],
    ];
    for (const [name, show] of shown) {
      source.addEventListener(name, (event) => {
        // Before its first event with an id, a new EventSource knows less than this page.
        this.#lastId = event.lastEventId || this.#lastId;
        show(JSON.parse(event.data));
        this.#showFacts();
      });
    }
  }

  /** @param {EventSource} source */
  #failed(source) {
    if (source !== this.#source) return;
    if (this.#root.dataset.state === "open") {
      this.#cuts += 1;
      this.#show("worker", "–");
      this.#mark("lost", `Connection lost. The last id is ${this.#lastId || "not known yet"}.`);
      this.#showFacts();
    }
    this.#showState("connecting", "reconnecting");
    if (source.readyState !== EventSource.CLOSED) return;
    this.#source = undefined;
    this.#retry = setTimeout(() => this.#connect(), RETRY_MS);
  }

  /** @param {Record<string, unknown>} data */
  #served({ pid }) {
    this.#show("worker", String(pid));
    this.#mark("back", `Connected to worker ${String(pid)}.`);
  }

  /** @param {Record<string, unknown>} data */
  #said({ sender, number, name, text }) {
    this.#tally.add(String(sender), Number(number));
    const row = document.createElement("li");
    const tag = textElement("span", "tag", String(name));
    tag.style.setProperty("--hue", String(Number.parseInt(String(sender).slice(0, 4), 16) % 360));
    row.append(tag, textElement("span", "text", String(text)));
    row.append(textElement("span", "number", `#${String(number)}`));
    if (sender === this.#outbox.sender) row.className = "own";
    this.#add(row);
  }

  /** @param {Record<string, unknown>} data */
  #gap({ reason }) {
    this.#gaps += 1;
    // Another log may have the same messages again, or none of them.
    if (reason === "reset") this.#tally.forget();
    const why = { evicted: "they are not kept any more", reset: "the room is another one" };
    const known = why[/** @type {keyof typeof why} */ (reason)] ?? String(reason);
    this.#mark("gap", `stream.gap: messages are missing here; ${known}.`);
  }

  /**
   * @param {string} kind
   * @param {string} text
   */
  #mark(kind, text) {
    this.#add(textElement("li", `mark ${kind}`, text));
  }

  /** @param {HTMLLIElement} row */
  #add(row) {
    this.#log.append(row);
    if (this.#log.childElementCount > SHOWN) this.#log.firstElementChild?.remove();
  }

  #showFacts() {
    const { received, missed, twice } = this.#tally;
    for (const [name, count] of Object.entries({
      received,
      missed,
      twice,
      gaps: this.#gaps,
      cuts: this.#cuts,
    })) {
      this.#show(name, count.toLocaleString("en"));
    }
    part(this.#root, "missed", HTMLElement).classList.toggle("wrong", missed > 0);
    part(this.#root, "twice", HTMLElement).classList.toggle("wrong", twice > 0);
    this.#show("last-id", this.#lastId || "–");
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #show(name, text) {
    part(this.#root, name, HTMLElement).textContent = text;
  }

  /**
   * @param {"idle" | "connecting" | "open"} kind
   * @param {string} text
   */
  #showState(kind, text) {
    this.#root.dataset.state = kind;
    this.#show("state", text);
    const { join, leave, say, many, cut } = this.#buttons;
    const inside = kind !== "idle";
    const focused = document.activeElement;
    join.disabled = this.#name.disabled = inside;
    for (const control of [leave, say, many, this.#text]) control.disabled = !inside;
    cut.disabled = kind !== "open";
    // A disabled control drops the focus, and the keyboard's place on the page with it.
    if (inside && (focused === join || focused === this.#name)) this.#text.focus();
    else if (!inside && focused === leave) join.focus();
    else if (cut.disabled && focused === cut) leave.focus();
  }

  #listen() {
    part(this.#root, "join-form", HTMLFormElement).addEventListener("submit", (submit) => {
      submit.preventDefault();
      if (this.#name.reportValidity()) this.join();
    });
    part(this.#root, "say-form", HTMLFormElement).addEventListener("submit", (submit) => {
      submit.preventDefault();
      const text = this.#text.value.trim();
      if (text) this.#outbox.send([{ name: this.#name.value, text }]);
      this.#text.value = "";
    });
    this.#buttons.leave.addEventListener("click", () => this.leave());
    this.#buttons.many.addEventListener("click", () => {
      this.#robots += 1;
      const name = this.#name.value;
      const texts = Array.from({ length: AT_ONCE }, (_, at) => `${at + 1} of ${AT_ONCE}`);
      this.#outbox.send(texts.map((text) => ({ name, text: `Round ${this.#robots}: ${text}` })));
    });
    this.#buttons.cut.addEventListener("click", () => void this.#cut());
  }

  /** Ask the server to cut this tab's connection, in whatever process it is. */
  async #cut() {
    const answer = await fetch("room/cut", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ reader: this.#reader }),
    }).catch(() => undefined);
    this.#trouble.textContent = answer?.ok ? "" : "the server does not cut now";
  }
}
