/** A server without a network: `fetch` hands out requests, and a test answers them. */

import { mock, type TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";

import type { AnyEvent, StreamOptions, StreamState } from "../src/options.ts";
import { EventStream } from "../src/stream.ts";

/** One request, which a test answers. */
export class Exchange {
  readonly request: Request;
  /** How often the body was asked for more. */
  pulls = 0;
  readonly #resolve: (response: Response) => void;
  readonly #reject: (error: unknown) => void;
  #body: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(
    request: Request,
    resolve: (response: Response) => void,
    reject: (error: unknown) => void,
  ) {
    this.request = request;
    this.#resolve = resolve;
    this.#reject = reject;
    request.signal.addEventListener("abort", () => {
      this.fail(request.signal.reason);
      this.cut(request.signal.reason);
    });
  }

  get aborted(): boolean {
    return this.request.signal.aborted;
  }

  /** Answer with an event stream that is open, and send what it begins with. */
  async open(text = "", headers: Record<string, string> = {}): Promise<void> {
    await this.answer(200, { "content-type": "text/event-stream", ...headers });
    if (text) await this.send(text);
  }

  async answer(status: number, headers: Record<string, string> = {}, text?: string): Promise<void> {
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#body = controller;
        },
        pull: () => {
          this.pulls += 1;
        },
      },
      { highWaterMark: 0 },
    );
    this.#resolve(
      new Response(status === 204 || status === 304 ? null : body, { status, headers }),
    );
    if (text !== undefined) {
      this.#body?.enqueue(new TextEncoder().encode(text));
      this.#body?.close();
    }
    await settled();
  }

  async send(text: string): Promise<void> {
    this.#body?.enqueue(new TextEncoder().encode(text));
    await settled();
  }

  async end(): Promise<void> {
    this.#body?.close();
    await settled();
  }

  async fail(error: unknown = new TypeError("fetch failed")): Promise<void> {
    this.#reject(error);
    await settled();
  }

  async cut(error: unknown = new TypeError("terminated")): Promise<void> {
    try {
      this.#body?.error(error);
    } catch {
      // It has ended before.
    }
    await settled();
  }
}

/** What a test makes streams of, and sees of them. */
export class Server {
  readonly exchanges: Exchange[] = [];
  readonly states: StreamState[] = [];

  readonly fetch = (request: Request): Promise<Response> =>
    new Promise((resolve, reject) => {
      this.exchanges.push(new Exchange(request, resolve, reject));
    });

  stream<E extends AnyEvent = AnyEvent>(options: StreamOptions<E> = {}): EventStream<E> {
    return new EventStream<E>("http://server/stream?token=secret", {
      fetch: this.fetch,
      onState: (state) => this.states.push(state),
      ...options,
    });
  }

  /** The last request. */
  get last(): Exchange {
    const last = this.exchanges.at(-1);
    if (last === undefined) throw new Error("nothing was asked for");
    return last;
  }

  get state(): StreamState | undefined {
    return this.states.at(-1);
  }
}

/** What a stream gives to a consumer that takes all of it, and how it ends. */
export class Read<E extends AnyEvent> {
  readonly events: E[] = [];
  ended = false;
  error: unknown;

  constructor(stream: AsyncIterable<E>) {
    void this.#read(stream);
  }

  get data(): unknown[] {
    return this.events.map(({ data }) => data);
  }

  async #read(stream: AsyncIterable<E>): Promise<void> {
    try {
      for await (const event of stream) this.events.push(event);
    } catch (error) {
      this.error = error;
    }
    this.ended = true;
  }
}

/** Let everything happen that waits for nothing but its turn. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await setImmediate();
}

/** Let virtual time pass, and everything happen that comes of it. */
export async function tick(ms: number): Promise<void> {
  mock.timers.tick(ms);
  await settled();
}

/** The page that a stream is on, for the time of a test. */
export class Page {
  isOnline = true;
  readonly #target = new EventTarget();
  readonly #document = { hidden: false };
  readonly #signals: AbortSignal[] = [];

  constructor(test: TestContext) {
    const global = globalThis as unknown as Record<string, unknown>;
    const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
    const navigator = Object.defineProperty({}, "onLine", { get: () => this.isOnline });
    Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
    global["document"] = this.#document;
    global["addEventListener"] = (
      type: string,
      listener: () => void,
      options: { signal: AbortSignal },
    ) => {
      this.#signals.push(options.signal);
      this.#target.addEventListener(type, listener, options);
    };
    test.after(() => {
      delete global["document"];
      delete global["addEventListener"];
      if (before) Object.defineProperty(globalThis, "navigator", before);
    });
  }

  /** How many listeners there are. */
  get listeners(): number {
    return this.#signals.filter(({ aborted }) => !aborted).length;
  }

  dispatch(type: string): void {
    this.#target.dispatchEvent(new Event(type));
  }

  hide(isHidden: boolean): void {
    this.#document.hidden = isHidden;
    this.dispatch("visibilitychange");
  }
}
