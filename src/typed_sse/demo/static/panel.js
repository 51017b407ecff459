/**
 * One stream on the page: its field, its buttons, its state, and what has come of it.
 *
 * Owns the stream and shows it; how it is read, and when it is read again, is known elsewhere.
 */

import { copy } from "./docs/events/copy.js";
import { curlCommand } from "./docs/events/curl.js";
import { Rate } from "./docs/events/meter.js";
import { tieTabs } from "./docs/events/tabs.js";
import { clone, part } from "./docs/events/template.js";
import { BoundedText, counted, laidOut, rateText } from "./docs/events/text.js";
import { EventTable } from "./log.js";
import { forCurl, requestFor } from "./request.js";
import { EventStream, NotAStream, TypedSSEError } from "./typed-sse.js";
import { VIEWS } from "./views.js";
import { endOf, waitText } from "./words.js";

const MAX_EVENT_CHARS = 1024 * 1024;
const RATE_REFRESH_MS = 1000;
const ERROR_EVENT = "stream.error";

/**
 * Shows one stream.
 *
 * Invariants:
 * 1. `#reading` is set from a connect until its outcome is shown, and only then; so there is at most
 *    one reader.
 * 2. The rate's timer runs exactly as long.
 */
export class Panel {
  /** The element to put on the page. */
  root = clone("panel");

  #stream;
  #view;
  /** @type {EventStream | undefined} */
  #reading = undefined;

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
  #connections = 0;
  /** Whether the next event is the first of another connection. */
  #again = false;
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
    if (this.#reading) return;
    this.#clear();
    const { terminal = [], policy = {} } = this.#stream;
    const { url, ...sent } = this.#request();
    this.#reading = new EventStream(url, {
      ...sent,
      terminal,
      policy,
      maxEventChars: MAX_EVENT_CHARS,
      parse: (text) => text, // the table shows the data as it came
      fetch: (request) => this.#fetch(request),
      onState: (state) => this.#changed(state),
    });
    this.#reading.on("*", (event) => this.#take(event));
    const refresh = setInterval(() => this.#showCounts(), RATE_REFRESH_MS);
    try {
      await this.#reading.start();
    } catch (error) {
      // What is wrong with the stream, `#changed` has shown.
      if (!(error instanceof TypedSSEError)) throw error;
    } finally {
      clearInterval(refresh);
      this.#showCounts();
      this.#reading = undefined;
    }
  }

  /** Close the stream, if it is open. */
  stop() {
    this.#reading?.close();
  }

  /**
   * Send a request, and show the bytes of its answer on their way to the parser.
   *
   * @param {Request} request
   */
  async #fetch(request) {
    const answer = await fetch(request);
    // With the BOM, if there is one: the raw view leaves nothing out.
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    /** @type {TransformStream<Uint8Array, Uint8Array>} */
    const tap = new TransformStream({
      transform: (bytes, next) => {
        this.#byteCount += bytes.length;
        this.#raw.append(decoder.decode(bytes, { stream: true }));
        this.#showCounts();
        next.enqueue(bytes);
      },
    });
    return new Response(answer.body?.pipeThrough(tap), answer);
  }

  /** @param {import("./typed-sse.js").AnyEvent} event */
  #take({ event, data, id = "" }) {
    const nowMs = performance.now();
    const text = String(data);
    this.#events.add({ event, data: text, id }, nowMs - this.#lastMs, this.#again);
    this.#again = false;
    this.#lastMs = nowMs;
    this.#rate.add(nowMs);
    this.#eventCount += 1;
    const value = parsed(text);
    if (event === ERROR_EVENT) this.#failure = String(value?.message);
    this.#view?.show(event, value);
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
    this.#connections = 0;
    this.#lastMs = performance.now();
    this.#failure = "";
    this.#showCounts();
  }

  /** @param {import("./typed-sse.js").StreamState} state */
  #changed(state) {
    switch (state.state) {
      case "connecting":
        this.#showState("connecting", "connecting");
        break;
      case "open":
        this.#connections += 1;
        this.#again = this.#connections > 1;
        this.#showState("open", "open");
        break;
      case "waiting":
        this.root.style.setProperty("--wait", `${state.delayMs ?? 0}ms`);
        this.#showState("waiting", waitText(state));
        break;
      case "closed":
        this.#showEnd(state);
        break;
    }
  }

  /** @param {import("./typed-sse.js").StreamState} state */
  #showEnd(state) {
    const { kind, text } = endOf(state, "stopped");
    this.#showState(kind, this.#failure ? `${text}: ${this.#failure}` : text);
    if (!(state.error instanceof NotAStream)) return;
    this.#refusal.replaceChildren(...laidOut(state.error.start || "The answer has no body."));
    this.#refusal.hidden = false;
  }

  /**
   * @param {"idle" | "connecting" | "open" | "waiting" | "ended" | "failed"} kind
   * @param {string} text
   */
  #showState(kind, text) {
    this.root.dataset.state = kind;
    this.#state.textContent = text;
    const busy = ["connecting", "open", "waiting"].includes(kind);
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
      ...(this.#connections > 1 ? [counted(this.#connections, "connection")] : []),
    ].join(" · ");
  }

  #showCurl() {
    this.#curl.textContent = curlCommand(forCurl(this.#request()));
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
