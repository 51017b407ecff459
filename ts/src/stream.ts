/**
 * One event stream from a URL, typed, by `fetch`, over as many connections as it takes.
 *
 * Carries requests and bytes, waits, and hands on events; when it connects, waits and stops is
 * decided in `reconnect`, and what bytes mean in `parser`. It reads no further than its consumer:
 * while an event is not done with, the body is not read, so that there is no queue to overflow.
 * Knows the page it is on, where there is one, and no framework.
 */

import {
  ConnectionFailed,
  MalformedData,
  NotAStream,
  TypedSSEError,
  UnknownEvent,
} from "./errors.ts";
import type { AnyEvent, IdStorage, Named, StreamOptions, StreamState } from "./options.ts";
import { type Message, Parser } from "./parser.ts";
import { type Connect, type Loss, Reconnector, type Stop, type Wait } from "./reconnect.ts";

// How much of an answer that is no stream is kept, and how long its start may take.
const START_CHARS = 2048;
const START_MS = 5000;

type Outcome<T> = { value?: T; error?: unknown; late?: true; left?: true };
type Change = Omit<StreamState, "failures">;

const noop = (): void => {};

/**
 * The events of a URL.
 *
 * `for await (const event of stream)` connects and hands on each event. The loop ends after a
 * terminal event, an answer 204, `close()`, or the proper end of a stream whose request is not sent
 * again. `stream.error`, `stream.end` and `stream.gap` are handed on as any other event: the loop
 * ends after the first two, and nothing is thrown. What else ends a stream is thrown: `NotAStream`,
 * `ConnectionFailed`, `MalformedData`, `UnknownEvent`, `EventTooLarge`, the reason of `signal`.
 *
 * A stream is read once, by one loop or one `start`. Leaving the loop closes it.
 *
 * A POST is sent again only while the server cannot have begun to work on it (503, 429, …), or
 * where the policy's `repeat` says so. `fetch` in a browser does not tell whether a request that
 * got no answer was sent, so there that is the end of a POST.
 *
 * On a page, a wait after a loss is over when the page comes `online`, and lasts while it is not. A
 * page that the browser keeps for "back" has no connection, and gets a new one when it comes back.
 *
 * Invariants:
 * 1. There is one wait at a time, and `#poke` looks whether it is over.
 * 2. After `close` there is no timer, listener or connection of this stream.
 */
export class EventStream<E extends AnyEvent = AnyEvent> implements AsyncIterable<E> {
  /** The option of this name; may be replaced. */
  onState: ((state: StreamState) => void) | undefined;

  readonly #url: string | URL;
  readonly #options: StreamOptions<E>;
  readonly #body: string | null = null;
  readonly #method: string;
  readonly #brain: Reconnector;
  readonly #listeners = new Set<readonly [name: string, listener: (event: never) => void]>();
  readonly #closing = new AbortController();
  #lastEventId: string;
  #savedId: string;
  #begun = false;
  // Whether the page is being left.
  #away = false;
  #cause: unknown;
  #poke: (type?: string) => void = noop;
  #drop: () => void = noop;

  /**
   * @param url Absolute, or relative to the page.
   * @throws {RangeError} A number of the policy cannot be used.
   * @throws {TypeError} The body cannot be written as JSON.
   */
  constructor(url: string | URL, options: StreamOptions<E> = {}) {
    const { body, method, onState, policy, sentinel, storage, terminal = [] } = options;
    this.#url = url;
    this.#options = options;
    this.onState = onState;
    if (body !== undefined) this.#body = JSON.stringify(body);
    this.#method = method ?? (this.#body === null ? "GET" : "POST");
    this.#lastEventId = this.#savedId = options.lastEventId ?? storage?.load() ?? "";
    this.#brain = new Reconnector(policy, {
      method: this.#method,
      lastEventId: this.#lastEventId,
      // Every stream declares those of the prefix; without them it may end without a last event.
      terminal: [...terminal.filter((name) => !isControl(name)), ...(sentinel ? [sentinel] : [])],
    });
  }

  /** The last id up to the event that was handed on last: behind it another stream may begin. */
  get lastEventId(): string {
    return this.#lastEventId;
  }

  /**
   * Call a listener with each event of a name, or with each one for `"*"`, before a loop gets it.
   * What it throws ends the stream. Without a loop, `start` is what connects.
   *
   * @returns What takes the listener away.
   */
  on<Name extends E["event"] | "*">(
    name: Name,
    listener: (event: Named<E, Name>) => void,
  ): () => void {
    const entry = [name, listener] as const;
    this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
    };
  }

  /** Read the stream for its listeners; rejects with what a loop would be thrown. */
  async start(): Promise<void> {
    for await (const _ of this);
  }

  /** End the stream, at once and for good; a loop ends as well. */
  close(): void {
    this.#end({});
  }

  /** @throws {TypedSSEError} The stream is or was read already. */
  [Symbol.asyncIterator](): AsyncGenerator<E, void, undefined> {
    if (this.#begun) throw new TypedSSEError("AlreadyRead", "a stream is read once; make another");
    this.#begun = true;
    const events = this.#read();
    const end = events.return.bind(events);
    // A generator that waits would take the call only after its next event.
    events.return = (value) => {
      this.close();
      return end(value);
    };
    return events;
  }

  async *#read(): AsyncGenerator<E, void, undefined> {
    const { signal } = this.#options;
    try {
      signal?.throwIfAborted();
      this.#listen();
      for (;;) {
        await this.#hold("hidden", () => this.#isPaused());
        const said = this.#brain.connect();
        const next =
          said.do === "connect" && !this.#isOver() ? yield* this.#connection(said) : said;
        if (this.#isOver()) {
          signal?.throwIfAborted();
          return;
        }
        if (next?.do === "stop") return this.#stop(next);
        if (next?.do === "wait") await this.#wait(next);
      }
    } catch (error) {
      const { reason } =
        error instanceof NotAStream || error instanceof ConnectionFailed ? error : {};
      this.#end({ reason, error });
      throw error;
    }
  }

  /** One connection; returns what to do then, or nothing where it was closed or paused. */
  async *#connection(connect: Connect): AsyncGenerator<E, Wait | Stop | undefined, undefined> {
    const { headers, fetch = globalThis.fetch } = this.#options;
    const brain = this.#brain;
    const aborter = new AbortController();
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    this.#drop = () => {
      aborter.abort();
      reader?.cancel().catch(noop);
    };
    const lost = (how: Loss, cause?: unknown): Wait | Stop => {
      this.#cause = cause;
      return brain.lost(how, Date.now());
    };
    this.#cause = undefined;
    this.#tell({ state: "connecting" });
    try {
      const asked = (async () => (typeof headers === "function" ? headers() : headers))();
      const given = await this.#until(asked, connect.answerWithinMs);
      if (given.left) return;
      if (!("value" in given)) return lost("unreachable", given.error);
      // A request that cannot be made at all is thrown here, not tried again.
      const request = this.#request(given.value, connect.lastEventId, aborter.signal);
      const answered = await this.#until(fetch(request), connect.answerWithinMs);
      if (answered.left) return;
      const response = answered.value;
      if (!response) return lost(lossOf(answered.error), answered.error);
      reader = response.body?.getReader();
      const next = brain.responded(response.status, response.headers, Date.now());
      // Who leads elsewhere may have worked on the request, whatever is answered there.
      const isSpent = next.do === "wait" && response.redirected && !brain.mayRepeat();
      if (isSpent || (next.do === "stop" && next.error)) {
        const start = await this.#startOf(reader);
        if (this.#isOver()) return;
        throw new NotAStream({
          reason: next.reason,
          url: (response.url || request.url).replace(/[?#].*/, ""),
          status: response.status,
          contentType: response.headers.get("content-type") ?? "",
          start,
        });
      }
      if (next.do !== "read") return next;
      this.#tell({ state: "open" });
      const parser = new Parser({ ...this.#options, lastEventId: brain.lastEventId });
      for (;;) {
        // No body is an empty one.
        if (!reader) return brain.ended(Date.now());
        const read = await this.#until(reader.read(), next.idleMs);
        if (read.left) return;
        if (!read.value) return lost(read.late ? "idle" : "cut", read.error);
        if (read.value.done) return brain.ended(Date.now());
        const messages = parser.push(read.value.value);
        brain.received(messages.length, parser.lastEventId, parser.retryMs);
        for (const message of messages) {
          if (this.#isOver()) return;
          if (message.data === this.#options.sentinel) {
            this.#save(message.id);
            return { do: "stop", reason: "terminal", error: false };
          }
          const last = brain.event(message.event);
          const event = this.#eventOf(message);
          if (event) {
            this.#hand(message.id, event);
            yield event;
            this.#save(message.id);
          }
          if (last) return last;
        }
        this.#save(parser.lastEventId);
      }
    } finally {
      this.#drop();
    }
  }

  #request(given: HeadersInit | undefined, lastEventId: string, signal: AbortSignal): Request {
    const { credentials } = this.#options;
    const headers = new Headers(given);
    headers.set("Accept", "text/event-stream");
    if (this.#body !== null) headers.set("Content-Type", "application/json");
    if (lastEventId) headers.set("Last-Event-ID", bytesOf(lastEventId));
    return new Request(this.#url, {
      method: this.#method,
      headers,
      body: this.#body,
      cache: "no-store",
      // Not all platforms take the field.
      ...(credentials && { credentials }),
      signal,
    });
  }

  #eventOf(message: Message): E | undefined {
    const { events, unknown, parse, validate, onMalformed } = this.#options;
    const { event, data, id } = message;
    if (events && !events.includes(event) && !isControl(event) && unknown !== "yield") {
      if (unknown === "error") throw new UnknownEvent(message);
      return undefined;
    }
    try {
      const made = { event, data: parse ? parse(data, event) : JSON.parse(data), id };
      return validate ? validate(made) : (made as unknown as E);
    } catch (cause) {
      const error = new MalformedData(message, cause);
      if (!onMalformed) throw error;
      onMalformed(error);
      return undefined;
    }
  }

  #hand(id: string, event: E): void {
    this.#lastEventId = id;
    for (const [name, listener] of this.#listeners) {
      if (name === "*" || name === event.event) listener(event as never);
    }
  }

  #save(id: string): void {
    this.#lastEventId = id;
    if (id !== this.#savedId) this.#options.storage?.save((this.#savedId = id));
  }

  async #startOf(reader: ReadableStreamDefaultReader<Uint8Array> | undefined): Promise<string> {
    const endMs = Date.now() + START_MS;
    const decoder = new TextDecoder();
    let start = "";
    while (reader && start.length < START_CHARS) {
      const read = await this.#until(reader.read(), endMs - Date.now());
      if (!read.value?.value) break;
      start += decoder.decode(read.value.value, { stream: true });
    }
    return start.slice(0, START_CHARS);
  }

  async #wait({ delayMs, reason }: Wait): Promise<void> {
    this.#tell({ state: "waiting", reason, delayMs, error: this.#cause });
    // What the server has asked for holds on another network too.
    const isLoss = reason !== "status" && reason !== "ended";
    await this.#until(undefined, delayMs, (type) => isLoss && type === "online");
    await this.#hold("offline", () => isLoss && globalThis.navigator?.onLine === false);
  }

  async #hold(reason: "hidden" | "offline", test: () => boolean): Promise<void> {
    if (this.#isOver() || !test()) return;
    this.#tell({ state: "waiting", reason });
    await this.#until(undefined, null, () => !test());
  }

  /** Wait for a promise, for so long at the most, and while there is no reason to leave. */
  #until<T>(
    promise: Promise<T> | undefined,
    ms: number | null,
    leave: (type?: string) => boolean = () => this.#isPaused(),
  ): Promise<Outcome<T>> {
    return new Promise((resolve) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const done = (outcome: Outcome<T>): void => {
        clearTimeout(timer);
        resolve(outcome);
      };
      if (ms !== null) timer = setTimeout(done, ms, { late: true });
      promise?.then(
        (value) => done({ value }),
        (error: unknown) => done({ error }),
      );
      this.#poke = (type) => {
        if (this.#isOver() || leave(type)) done({ left: true });
      };
      this.#poke();
    });
  }

  #isOver(): boolean {
    return this.#closing.signal.aborted;
  }

  #isPaused(): boolean {
    const isHidden = this.#options.pauseHidden && globalThis.document?.hidden;
    return (this.#away || isHidden === true) && this.#brain.mayRepeat();
  }

  #listen(): void {
    const { signal } = this.#closing;
    this.#options.signal?.addEventListener("abort", () => this.close(), { signal });
    for (const type of ["online", "visibilitychange", "pagehide", "pageshow"]) {
      globalThis.addEventListener?.(
        type,
        () => {
          if (type.startsWith("page")) this.#away = type === "pagehide";
          this.#poke(type);
        },
        { signal },
      );
    }
  }

  #stop({ reason, error }: Stop): void {
    // The consumer has got that event.
    if (error && reason !== "stream.error") {
      const { failures, lastEventId } = this.#brain;
      throw new ConnectionFailed({ reason, failures, lastEventId, cause: this.#cause });
    }
    this.#end({ reason });
  }

  #end(change: Omit<Change, "state">): void {
    if (this.#isOver()) return;
    this.#closing.abort();
    this.#drop();
    this.#poke();
    this.#tell({ state: "closed", ...change });
  }

  #tell(change: Change): void {
    this.onState?.({ failures: this.#brain.failures, ...change });
  }
}

/** An `IdStorage` in one entry of `sessionStorage` or `localStorage`. */
export function inStorage(storage: Storage, key: string): IdStorage {
  return {
    load: () => storage.getItem(key),
    save: (id) => storage.setItem(key, id),
  };
}

function isControl(name: string): boolean {
  return name.startsWith("stream.");
}

/** A header's value is made of bytes: those of the id's UTF-8. */
function bytesOf(id: string): string {
  return String.fromCharCode(...new TextEncoder().encode(id));
}

/** Node says what has failed; a browser does not, and the request may have been sent. */
function lossOf(error: unknown): Loss {
  const { code } = ((error as Error | undefined)?.cause ?? {}) as { code?: unknown };
  const neverSent = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|UND_ERR_CONNECT_TIMEOUT)$/;
  return neverSent.test(String(code)) ? "unreachable" : "unanswered";
}
