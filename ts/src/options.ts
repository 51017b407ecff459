/**
 * What a stream is made of and what it says of itself: types alone, nothing that runs.
 */

import type { MalformedData } from "./errors.ts";
import type { Reason, ReconnectPolicy } from "./reconnect.ts";

/** What every event is; the unions that `typed-sse types` writes are made of such. */
export interface AnyEvent {
  readonly event: string;
  readonly data: unknown;
  /** The last id up to this event, `""` where there was none. */
  readonly id?: string;
}

/** The events of a union that a listener for `Name` hears; all of them for `"*"`. */
export type Named<E extends AnyEvent, Name> = Name extends "*"
  ? E
  : string extends E["event"]
    ? E
    : Extract<E, { event: Name }>;

/** What a stream is about, as `onState` hears it. */
export interface StreamState {
  /** `closed` is the last one. */
  readonly state: "connecting" | "open" | "waiting" | "closed";
  /**
   * Why it waits or is closed. `hidden`, `offline`: until the page is visible, or online. None
   * where the program has closed it, or an event was refused.
   */
  readonly reason?: Reason | "hidden" | "offline" | undefined;
  /** How long it waits; none where that is not known. */
  readonly delayMs?: number | undefined;
  /** How many connections in a row have brought nothing. */
  readonly failures: number;
  /** What was thrown: to the consumer where it is `closed`; by `fetch` where it is `waiting`. */
  readonly error?: unknown;
}

/** Where the last event id is kept, so that another page load goes on behind it. */
export interface IdStorage {
  /** Called once, when the stream is made. */
  load(): string | null;
  /**
   * Called with a new id, once the consumer asks for what follows its event: that of an event at
   * which a loop is left, or throws, is not kept, so that it comes again. One stream an entry.
   */
  save(id: string): void;
}

export interface StreamOptions<E extends AnyEvent = AnyEvent> {
  /** `GET`; `POST` where there is a body. */
  readonly method?: string;
  /**
   * Of each request; a function is called for each one, so that it can renew a token. What it
   * throws counts as a server that was not reached.
   */
  readonly headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** Sent as JSON. */
  readonly body?: unknown;
  /** As of `fetch`: `same-origin`. */
  readonly credentials?: RequestCredentials;
  /** Ends the stream when it is aborted; the consumer is thrown its reason. */
  readonly signal?: AbortSignal | undefined;
  /** The id to begin behind, instead of that in `storage`. */
  readonly lastEventId?: string;
  /** Keeps the last event id; see `inStorage`. Not at all by default. */
  readonly storage?: IdStorage;
  /** When to connect again, how long to wait, when to stop. */
  readonly policy?: ReconnectPolicy;
  /** The names of events that nothing follows. `stream.end` and `stream.error` always are. */
  readonly terminal?: readonly string[];
  /** Data that nothing follows, and that is not handed on, such as `[DONE]`. */
  readonly sentinel?: string;
  /** The names that are declared; by default any name is. `stream.end` and the like always are. */
  readonly events?: readonly string[];
  /**
   * What becomes of an event that is not declared: it is skipped, so that a server may add one
   * before its clients know; or handed on; or an error, `UnknownEvent`.
   */
  readonly unknown?: "skip" | "yield" | "error";
  /** Makes a value of an event's data: `JSON.parse`. */
  readonly parse?: (data: string, name: string) => unknown;
  /** Checks an event and returns it, as a schema's `parse` does; throws where it does not fit. */
  readonly validate?: (event: { event: string; data: unknown; id: string }) => E;
  /** Takes what `parse` or `validate` refuse, and the stream goes on; by default it is thrown. */
  readonly onMalformed?: (error: MalformedData) => void;
  /** Hears of each change of the stream's state. */
  readonly onState?: (state: StreamState) => void;
  /**
   * Whether the stream has no connection while the page is hidden. Only where its request may be
   * sent again; not by default.
   */
  readonly pauseHidden?: boolean;
  /** How large an event may be, in characters: 16 Mi. */
  readonly maxEventChars?: number;
  /** Sends a request; the platform's `fetch`. It has to obey the request's `signal`. */
  readonly fetch?: (request: Request) => Promise<Response>;
}
