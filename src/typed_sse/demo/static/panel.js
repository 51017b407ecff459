/**
 * One stream on the page: its field, its buttons, its state, and what has come of it.
 *
 * Owns the one connection of its stream and shows it; how bytes are fetched, parsed and laid out is
 * known elsewhere.
 */

import { readStream } from "./docs/events/connection.js";
import { copy } from "./docs/events/copy.js";
import { curlCommand } from "./docs/events/curl.js";
import { Rate } from "./docs/events/meter.js";
import { EventStreamParser, EventTooLarge } from "./docs/events/sse.js";
import { tieTabs } from "./docs/events/tabs.js";
import { clone, part } from "./docs/events/template.js";
import { BoundedText, counted, laidOut, rateText } from "./docs/events/text.js";
import { EventTable } from "./log.js";
import { requestFor } from "./request.js";
import { VIEWS } from "./views.js";

const MAX_EVENT_CHARS = 1024 * 1024;
const RATE_REFRESH_MS = 1000;
const ERROR_EVENT = "stream.error";

/**
 * Shows one stream.
 *
 * Invariants:
 * 1. `#connection` is set from a connect until its outcome is shown, and only then; so there is at
 *    most one reader.
 * 2. The rate's timer runs exactly as long.
 */
export class Panel {
  /** The element to put on the page. */
  root = clone("panel");

  #stream;
  #view;
  /** @type {AbortController | undefined} */
  #connection = undefined;

  #field = part(this.root, "field", HTMLInputElement);
  #connectButton = part(this.root, "connect", HTMLButtonElement);
  #stopButton = part(this.root, "stop", HTMLButtonElement);
  #state = part(this.root, "state", HTMLElement);
  #refusal = part(this.root, "refusal", HTMLElement);
  #counts = part(this.root, "counts", HTMLElement);
  #curl = part(this.root, "curl", HTMLElement);

  #events = new EventTable(part(this.root, "events", HTMLTableSectionElement));
  #raw = new BoundedText(part(this.root, "raw", HTMLElement));
  #rate = new Rate();
  #eventCount = 0;
  #byteCount = 0;
  #lastMs = 0;
  /** What the stream has said of its failure. */
  #failure = "";

  /** @param {import("./catalog.js").Stream} stream */
  constructor(stream) {
    this.#stream = stream;
    this.#view = stream.view && VIEWS[stream.view]();
    if (this.#view) part(this.root, "view", HTMLElement).append(this.#view.root);
    this.#describe();
    this.#listen();
    this.#clear();
    this.#showState("idle", "not connected");
    this.#showCurl();
  }

  /** Open the stream with what the field holds, unless it is open. */
  async connect() {
    if (this.#connection) return;
    this.#connection = new AbortController();
    this.#clear();
    this.#showState("connecting", "connecting");
    const refresh = setInterval(() => this.#showCounts(), RATE_REFRESH_MS);
    try {
      await this.#read(this.#connection.signal);
    } finally {
      clearInterval(refresh);
      this.#showCounts();
      this.#connection = undefined;
    }
  }

  /** Close the stream, if it is open. */
  stop() {
    this.#connection?.abort();
  }

  /** @param {AbortSignal} signal */
  async #read(signal) {
    const parser = new EventStreamParser((event) => this.#take(event), {
      maxEventChars: MAX_EVENT_CHARS,
    });
    // With the BOM, if there is one: the raw view leaves nothing out.
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    let open = false;
    try {
      const outcome = await readStream(this.#request(), signal, {
        onOpen: () => {
          open = true;
          this.#showState("open", "open");
        },
        onBytes: (bytes) => {
          this.#byteCount += bytes.length;
          this.#raw.append(decoder.decode(bytes, { stream: true }));
          if (open) parser.push(bytes);
          this.#showCounts();
        },
      });
      this.#showOutcome(outcome);
    } catch (error) {
      if (!(error instanceof EventTooLarge)) throw error;
      this.#showState("failed", `given up: ${error.message}`);
    }
  }

  /** @param {import("./docs/events/sse.js").StreamEvent} event */
  #take(event) {
    const nowMs = performance.now();
    this.#events.add(event, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.#rate.add(nowMs);
    this.#eventCount += 1;
    const data = parsed(event.data);
    if (event.name === ERROR_EVENT) this.#failure = String(data?.message);
    this.#view?.show(event.name, data);
  }

  #request() {
    return requestFor(this.#stream, this.#field.value, location.origin);
  }

  #clear() {
    this.#events.clear();
    this.#raw.clear();
    this.#view?.clear();
    this.#refusal.hidden = true;
    this.#rate = new Rate();
    this.#eventCount = 0;
    this.#byteCount = 0;
    this.#lastMs = performance.now();
    this.#failure = "";
    this.#showCounts();
  }

  /** @param {import("./docs/events/connection.js").Outcome} outcome */
  #showOutcome(outcome) {
    switch (outcome.kind) {
      case "ended":
        if (this.#failure) this.#showState("failed", `failed: ${this.#failure}`);
        else this.#showState("ended", "ended by the server");
        break;
      case "stopped":
        this.#showState("idle", "stopped");
        break;
      case "lost":
        this.#showState("failed", "connection lost");
        break;
      case "unreachable":
        this.#showState("failed", "server not reached");
        break;
      case "refused":
        this.#showState("failed", `refused: ${outcome.status} ${outcome.reason}`.trimEnd());
        this.#refusal.replaceChildren(...laidOut(outcome.body || "The answer has no body."));
        this.#refusal.hidden = false;
        break;
    }
  }

  /**
   * @param {"idle" | "connecting" | "open" | "ended" | "failed"} kind
   * @param {string} text
   */
  #showState(kind, text) {
    this.root.dataset.state = kind;
    this.#state.textContent = text;
    const busy = kind === "connecting" || kind === "open";
    const [on, off] = busy
      ? [this.#stopButton, this.#connectButton]
      : [this.#connectButton, this.#stopButton];
    on.disabled = false;
    // A disabled button drops the focus, and the keyboard's place on the page with it.
    if (document.activeElement === off) on.focus();
    off.disabled = true;
  }

  #showCounts() {
    const rate = this.#rate.perSecond(performance.now());
    const events = counted(this.#eventCount, "event");
    const bytes = counted(this.#byteCount, "byte");
    const shown = this.#events.size;
    this.#counts.textContent = [
      shown < this.#eventCount ? `${events} (last ${shown} shown)` : events,
      this.#raw.dropped ? `${bytes} (last 64 Ki shown)` : bytes,
      ...(rate === undefined ? [] : [rateText(rate)]),
    ].join(" · ");
  }

  #showCurl() {
    this.#curl.textContent = curlCommand(this.#request());
  }

  #describe() {
    const { method, path, title, about, yields, field } = this.#stream;
    this.root.dataset.path = path;
    this.root.setAttribute("aria-label", title);
    for (const [name, text] of Object.entries({ method, path, title, about, yields })) {
      part(this.root, name, HTMLElement).textContent = text;
    }
    part(this.root, "label", HTMLElement).textContent = field.label;
    part(this.root, "spoken-path", HTMLElement).textContent = path;
    this.#field.name = field.name;
    this.#field.type = field.type;
    this.#field.value = field.value;
  }

  #listen() {
    part(this.root, "form", HTMLFormElement).addEventListener("submit", (submit) => {
      submit.preventDefault();
      void this.connect();
    });
    this.#stopButton.addEventListener("click", () => this.stop());
    this.#field.addEventListener("input", () => this.#showCurl());
    const copyButton = part(this.root, "copy", HTMLButtonElement);
    copyButton.addEventListener("click", () => {
      void copy(this.#curl.textContent ?? "", this.#curl, copyButton);
    });
    const tabs = ["events", "raw"].map((name) => ({
      handle: part(this.root, `${name}-tab`, HTMLElement),
      page: part(this.root, `${name}-page`, HTMLElement),
    }));
    tieTabs(tabs, this.#stream.path.slice(1));
  }
}

/** @param {string} data */
function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}
