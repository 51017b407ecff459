/**
 * The room on the page: who says what, and whether anything was missed or came twice.
 *
 * Owns one stream, and shows what it says of itself; when to come back, and behind which id, is the
 * stream's to know.
 */

import { part } from "./docs/events/template.js";
import { textElement } from "./docs/events/text.js";
import { Outbox } from "./outbox.js";
import { randomHex } from "./random.js";
import { endStay, keepStay, keptStay } from "./stay.js";
import { Tally } from "./tally.js";
import { EventStream, TypedSSEError } from "./typed-sse.js";
import { endOf, secondsText, waitText, why } from "./words.js";

const SHOWN = 500;
const AT_ONCE = 20;
// So many messages from before are shown to who joins.
const START = "-50";
const MISSING = {
  evicted: "they are not kept any more",
  reset: "the room is another one",
  overflow: "this tab was too slow",
};
const NAMES = ["Ada", "Alan", "Barbara", "Edsger", "Grace", "Hedy", "Radia", "Vint"];

/**
 * The events of the room, as `typed-sse types` writes them.
 *
 * @typedef {{ pid: number }} Worker
 * @typedef {{ sender: string, number: number, name: string, text: string }} Message
 * @typedef {{ reason: keyof typeof MISSING }} Gap
 * @typedef {{ event: "served", data: Worker }
 *   | { event: "said", data: Message }
 *   | { event: "stream.gap", data: Gap }} RoomEvent
 */

/**
 * Invariants:
 * 1. `#stream` is set from `join` until it is closed: by `leave`, or by a server that has no room.
 * 2. The tab's stay is kept just as long, with what was counted up to its id.
 */
export class Room {
  #root;
  /** @type {EventStream<RoomEvent> | undefined} */
  #stream = undefined;
  #reader = randomHex(16);
  #gaps = 0;
  #cuts = 0;
  #failures = 0;
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
    const stay = keptStay();
    if (stay === undefined) return;
    this.#name.value = stay.name;
    this.join();
    this.#mark("anew", `The page was loaded anew. The stream goes on behind ${stay.id}.`);
  }

  /** Join, or go on where this tab was before the page was loaded anew. */
  join() {
    if (this.#stream) return;
    const stay = keptStay();
    this.#log.replaceChildren();
    this.#tally = new Tally(stay?.counts);
    this.#gaps = stay?.gaps ?? 0;
    this.#cuts = 0;
    this.#show("worker", "–");
    this.#show("wait", "–");
    const url = new URL("room", location.href);
    url.searchParams.set("reader", this.#reader);
    // Only for a connection without a last id, as the first one; the header wins where there is one.
    url.searchParams.set("last_event_id", START);
    /** @type {EventStream<RoomEvent>} */
    const stream = new EventStream(url, {
      storage: { load: () => stay?.id ?? null, save: (id) => this.#keep(id) },
      onState: (state) => this.#changed(state),
    });
    stream.on("served", ({ data }) => this.#served(data));
    stream.on("said", ({ data }) => this.#said(data));
    stream.on("stream.gap", ({ data }) => this.#gap(data));
    stream.on("*", () => {
      this.#failures = 0;
      this.#showFacts();
    });
    this.#stream = stream;
    stream.start().catch((error) => {
      // What is wrong with the stream, `#changed` has shown.
      if (!(error instanceof TypedSSEError)) throw error;
    });
  }

  leave() {
    this.#stream?.close();
  }

  /** @param {string} id */
  #keep(id) {
    const { counts } = this.#tally;
    keepStay({ name: this.#name.value, id, counts, gaps: this.#gaps });
  }

  /** @param {import("./typed-sse.js").StreamState} state */
  #changed(state) {
    this.#failures = state.failures;
    switch (state.state) {
      case "connecting":
        this.#showState("connecting", "connecting");
        break;
      case "open":
        this.#showState("open", "connected");
        break;
      case "waiting":
        this.#lost(state);
        this.#showState("waiting", waitText(state));
        break;
      case "closed":
        this.#stream = undefined;
        endStay();
        this.#showState("idle", endOf(state, "left").text);
        break;
    }
    this.#showFacts();
  }

  /** @param {import("./typed-sse.js").StreamState} state */
  #lost({ reason, delayMs }) {
    if (delayMs !== undefined) {
      this.#show("wait", secondsText(delayMs));
      this.#root.style.setProperty("--wait", `${delayMs}ms`);
    }
    if (this.#root.dataset.state !== "open") return;
    this.#cuts += 1;
    this.#show("worker", "–");
    const id = this.#stream?.lastEventId || "not known yet";
    this.#mark("lost", `Lost: ${why(reason)}. The last id is ${id}.`);
  }

  /** @param {Worker} data */
  #served({ pid }) {
    this.#show("worker", String(pid));
    this.#mark("back", `Connected to worker ${pid}.`);
  }

  /** @param {Message} data */
  #said({ sender, number, name, text }) {
    this.#tally.add(sender, number);
    const row = document.createElement("li");
    const tag = textElement("span", "tag", name);
    tag.style.setProperty("--hue", String(Number.parseInt(sender.slice(0, 4), 16) % 360));
    row.append(tag, textElement("span", "text", text));
    row.append(textElement("span", "number", `#${number}`));
    if (sender === this.#outbox.sender) row.className = "own";
    this.#add(row);
  }

  /** @param {Gap} data */
  #gap({ reason }) {
    this.#gaps += 1;
    // Another log may have the same messages again, or none of them.
    if (reason === "reset") this.#tally.forget();
    this.#mark("gap", `stream.gap: messages are missing here; ${MISSING[reason]}.`);
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
      failures: this.#failures,
    })) {
      this.#show(name, count.toLocaleString("en"));
    }
    part(this.#root, "missed", HTMLElement).classList.toggle("wrong", missed > 0);
    part(this.#root, "twice", HTMLElement).classList.toggle("wrong", twice > 0);
    if (this.#stream) this.#show("last-id", this.#stream.lastEventId || "–");
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #show(name, text) {
    part(this.#root, name, HTMLElement).textContent = text;
  }

  /**
   * @param {"idle" | "connecting" | "open" | "waiting"} kind
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
