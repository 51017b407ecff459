/**
 * Streams by the names of their operations, from what `typed-sse types` writes of an application.
 *
 * Fills in method, path, names and terminal events from its constant `streams`, and takes path,
 * query and body as its types say. Knows URLs; opens nothing by itself.
 */

import type { AnyEvent, StreamOptions } from "./options.ts";
import { EventStream } from "./stream.ts";

/** What the constant `streams` says of an operation. */
export interface StreamInfo<Name extends string = string> {
  readonly method: string;
  readonly path: string;
  readonly events: readonly Name[];
  readonly terminal: readonly Name[];
  readonly resumes: boolean;
}

/** What `opener` fills in, and a call does not give. */
type Filled = "method" | "body" | "events" | "terminal";

/** What a call takes: the request's own parameters and body, and the options of a stream. */
export type OpenOptions<Request, E extends AnyEvent> = Pick<
  Request,
  Extract<keyof Request, "path" | "query" | "body">
> &
  Omit<StreamOptions<E>, Filled>;

/** Opens streams by their operations; the options may be missing where nothing is required. */
export type Open<
  Streams extends Record<keyof Streams, AnyEvent>,
  Requests extends Record<keyof Streams, object>,
> = <Operation extends keyof Streams>(
  operation: Operation,
  ...options: {} extends OpenOptions<Requests[Operation], Streams[Operation]>
    ? [options?: OpenOptions<Requests[Operation], Streams[Operation]>]
    : [options: OpenOptions<Requests[Operation], Streams[Operation]>]
) => EventStream<Streams[Operation]>;

export interface OpenerOptions extends Omit<StreamOptions<never>, Filled | "validate"> {
  /** What stands before each path, such as `https://api.example.com`; nothing by default. */
  readonly baseUrl?: string;
}

/**
 * Return what opens the streams of an application by the names of their operations.
 *
 *     const open = opener<Streams, StreamRequests>(streams, { headers });
 *     for await (const event of open("POST /chat", { body: { prompt: "one two" } })) …
 *
 * A request that is not safe, such as POST, is sent again behind the last event id where the
 * operation resumes. Parameters that are `null` are left out; of an array, each item is sent.
 *
 * @param streams The constant that `typed-sse types` has written, beside both types.
 * @param defaults Options of all streams; those of a call win.
 * @throws {TypeError} From a call: a parameter of the path is missing, empty, `.` or `..`.
 */
export function opener<
  Streams extends Record<keyof Streams, AnyEvent>,
  Requests extends Record<keyof Streams, object>,
>(
  streams: { readonly [Operation in keyof Streams]: StreamInfo<Streams[Operation]["event"]> },
  { baseUrl = "", ...defaults }: OpenerOptions = {},
): Open<Streams, Requests> {
  return (operation, ...[options]) => {
    const { method, path, events, terminal, resumes } = streams[operation];
    const { path: given, query, ...own } = (options ?? {}) as Parameters;
    const merged = { ...defaults, ...own };
    return new EventStream(baseUrl.replace(/\/$/, "") + filled(path, given) + written(query), {
      method,
      terminal,
      ...(events.length > 0 && { events }),
      ...merged,
      policy: { ...(resumes && method !== "GET" && { repeat: "resume" }), ...merged.policy },
    });
  };
}

type Parameters = StreamOptions<never> & {
  path?: Record<string, unknown>;
  query?: Record<string, unknown>;
};

function filled(path: string, given: Record<string, unknown> = {}): string {
  return path.replace(/\{([^}]*)\}/g, (_, name: string) => {
    const value = String(given[name] ?? "");
    // A segment of dots would lead elsewhere, and an empty one perhaps to another host.
    if (/^\.{0,2}$/.test(value)) throw new TypeError(`${path}: ${name} is "${value}"`);
    return encodeURIComponent(value);
  });
}

function written(query: Record<string, unknown> = {}): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) if (item != null) pairs.append(name, String(item));
  }
  return String(pairs) && `?${pairs}`;
}
