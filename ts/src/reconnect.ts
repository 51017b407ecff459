/**
 * When a client connects, how long it waits, and when it stops: its decisions, without its I/O.
 *
 * A client tells what has happened, and is told what to do; it has no counter and no formula of its
 * own. The Python client has the same decisions, and both pass the same table,
 * `conformance/reconnect.json`. Knows no clock; times are in milliseconds.
 *
 * Source: WHATWG HTML, "Server-sent events", sections 9.2.2 and 9.2.3 (connecting, reconnecting).
 */

/** What a server asks for beyond an hour is taken for an hour. */
export const LONGEST_WAIT_MS = 3_600_000;

// A timer of more, 24 days, would fire at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

// A server that announces a longer limit is taken to mean a day.
const LONGEST_SILENCE_MS = 86_400_000;

// In UTF-8; servers take no longer headers.
const MAX_ID_BYTES = 8192;

/**
 * When a request is sent again. `always`: whenever the connection is lost or ends. `resume`: once
 * the server may have begun to work on it, only with a last event id, behind which it goes on.
 * `unsent`: only while the server cannot have begun: it was not reached, or has put it off.
 */
export type Repeat = "always" | "resume" | "unsent";

/**
 * How a connection was lost. `unreachable`: nothing was sent. `unanswered`: the request may have
 * been sent, and no answer came, or not in time. `cut`: in the middle. `idle`: nothing came for too
 * long.
 */
export type Loss = "unreachable" | "unanswered" | "cut" | "idle";

/**
 * Why a client waits or stops: a `Loss`, or: the body has `ended` properly; the answer's `status`
 * or `content-type` is none of a stream; it was 204, `no-content`; an event that was declared
 * `terminal` has come, or `stream.end`, or `stream.error`; the last id cannot be in a header.
 */
export type Reason =
  | Loss
  | "ended"
  | "status"
  | "content-type"
  | "no-content"
  | "terminal"
  | "stream.end"
  | "stream.error"
  | "unsendable-id";

/**
 * What the standard leaves to the client.
 *
 * The n-th wait in a row doubles the one before, up to `maxDelayMs`, and up to half of it again is
 * added at random, so that readers that lost the same server do not come back together. An event,
 * or a connection that was open for `settledAfterMs`, is progress: the next wait is the first
 * again.
 */
export interface ReconnectPolicy {
  /** The first wait where the server has sent no `retry`: 1 second. */
  readonly baseDelayMs?: number;
  /** What a wait grows to: 30 seconds. What the server asks for may be longer. */
  readonly maxDelayMs?: number;
  /** How much of a wait is added at random at the most: 0.5, half of it. */
  readonly jitter?: number;
  /** How many connections may fail in a row; `null`, the default, for no limit. */
  readonly maxAttempts?: number | null;
  /** How long a connection without an event is open to count as one that works: 10 seconds. */
  readonly settledAfterMs?: number;
  /** How long the answer's head may take: 60 seconds; `null` or 0 for no limit. */
  readonly answerWithinMs?: number | null;
  /**
   * How long nothing may come, not even a keep-alive. `null`, the default: as long as the server
   * announces in `Stream-Idle-Limit`, and without limit where it does not.
   */
  readonly idleLimitMs?: number | null;
  /**
   * The statuses that are worth another attempt, after the `Retry-After` that comes with them: 408,
   * 425, 429, 502, 503 and 504. All others but 200 and 204 end the stream.
   */
  readonly retryStatuses?: readonly number[];
  /**
   * When the request is sent again; `null`, the default, is `always` for a safe method and `unsent`
   * for all others, as POST.
   */
  readonly repeat?: Repeat | null;
}

/** Send the request, with this `Last-Event-ID` unless it is empty. */
export interface Connect {
  readonly do: "connect";
  readonly lastEventId: string;
  readonly answerWithinMs: number | null;
}

/** Read the body; where nothing comes for `idleMs`, the connection is lost as `idle`. */
export interface Read {
  readonly do: "read";
  readonly idleMs: number | null;
}

/** Close the connection, wait so long, then connect; `failures` in a row so far. */
export interface Wait {
  readonly do: "wait";
  readonly delayMs: number;
  readonly reason: Reason;
  readonly failures: number;
}

/** Close the connection and do not come back; `error` says that it is not a good end. */
export interface Stop {
  readonly do: "stop";
  readonly reason: Reason;
  readonly error: boolean;
}

export interface ReconnectorOptions {
  /** The request's: `GET`. */
  readonly method?: string;
  /** The id to begin behind; `""` for none. */
  readonly lastEventId?: string;
  /** Names of events after which nothing follows. */
  readonly terminal?: readonly string[];
  /** Gives the next number from 0 up to 1. */
  readonly random?: () => number;
}

// As `Headers` has them: without the space around a value.
type Headings = { get(name: string): string | null };

/**
 * The decisions of one client, from its first connection to the last.
 *
 * Call `connect`, and do what is said; then tell what has come of it by `responded` or `lost`;
 * while the body is read, tell `received` and `event`; at its end, `ended` or `lost`.
 *
 * Invariants:
 * 1. `failures` is 0 after an event, and grows by one with each `Wait`.
 * 2. `#retryMs` is the server's last `retry`, and outlives the connection.
 */
export class Reconnector {
  /** What the next connection resumes behind. */
  lastEventId: string;
  /** How many connections in a row have brought nothing. */
  failures = 0;

  readonly #policy: Required<ReconnectPolicy>;
  readonly #terminal: readonly string[];
  readonly #random: () => number;
  #retryMs: number | undefined;
  // NaN: long ago is no time, and no time is long ago.
  #openSinceMs = NaN;

  /** @throws {RangeError} A number of the policy is negative, none, or more than a timer holds. */
  constructor(
    policy: ReconnectPolicy = {},
    {
      method = "GET",
      lastEventId = "",
      terminal = [],
      random = Math.random,
    }: ReconnectorOptions = {},
  ) {
    this.#policy = {
      baseDelayMs: 1000,
      maxDelayMs: 30_000,
      jitter: 0.5,
      maxAttempts: null,
      settledAfterMs: 10_000,
      answerWithinMs: 60_000,
      idleLimitMs: null,
      retryStatuses: [408, 425, 429, 502, 503, 504],
      ...Object.fromEntries(Object.entries(policy).filter(([, value]) => value !== undefined)),
      repeat: policy.repeat ?? (/^(GET|HEAD|OPTIONS|QUERY)$/i.test(method) ? "always" : "unsent"),
    };
    for (const [name, value] of Object.entries({ ...this.#policy, retryStatuses: 0, repeat: 0 })) {
      // Of `null`, which is no limit, the number is 0.
      if (!(Number(value) >= 0 && Number(value) <= LONGEST_TIMER_MS)) {
        throw new RangeError(`${name} is ${value}; give 0 to ${LONGEST_TIMER_MS}`);
      }
    }
    this.lastEventId = lastEventId;
    this.#terminal = terminal;
    this.#random = random;
  }

  /** Say what to send. */
  connect(): Connect | Stop {
    this.#openSinceMs = NaN;
    if (!isSendable(this.lastEventId)) return stop("unsendable-id", true);
    return {
      do: "connect",
      lastEventId: resumedId(this.lastEventId),
      answerWithinMs: this.#policy.answerWithinMs || null,
    };
  }

  /** Take the answer's head. */
  responded(status: number, headers: Headings, nowMs: number): Read | Wait | Stop {
    if (status === 200) {
      if (!isStream(headers.get("content-type"))) return stop("content-type", true);
      this.#openSinceMs = nowMs;
      return { do: "read", idleMs: this.#policy.idleLimitMs || announcedIdleMs(headers) };
    }
    if (status === 204) return stop("no-content", false);
    if (!this.#policy.retryStatuses.includes(status)) return stop("status", true);
    // By these the server says itself that it has not begun to work on the request.
    const unsent = [408, 425, 429, 503].includes(status);
    return this.#again("status", nowMs, unsent, retryAfterMs(headers));
  }

  /** Take what bytes have brought: so many events, the last id and `retry` of all so far. */
  received(events: number, lastEventId: string, retryMs: number | undefined): void {
    if (events > 0) this.failures = 0;
    this.lastEventId = lastEventId;
    this.#retryMs = retryMs ?? this.#retryMs;
  }

  /** Take an event's name; what follows one that is the last is not read. */
  event(name: string): Stop | null {
    if (name === "stream.error" || name === "stream.end") return stop(name, name !== "stream.end");
    return this.#terminal.includes(name) ? stop("terminal", false) : null;
  }

  /** Take the proper end of the body. */
  ended(nowMs: number): Wait | Stop {
    if (this.mayRepeat()) return this.#again("ended", nowMs);
    // Where a last event is declared and has not come, the end has come too early.
    return stop("ended", this.#terminal.length > 0);
  }

  /** Take the loss of the connection, at whatever point of it. */
  lost(how: Loss, nowMs: number): Wait | Stop {
    return this.#again(how, nowMs, how === "unreachable");
  }

  /**
   * Whether the request would be sent again if the connection were lost now.
   *
   * @param unsent Whether the server cannot have begun to work on it.
   */
  mayRepeat(unsent = false): boolean {
    const { repeat } = this.#policy;
    return (
      unsent || repeat === "always" || (repeat === "resume" && resumedId(this.lastEventId) !== "")
    );
  }

  #again(reason: Reason, nowMs: number, unsent = false, atLeastMs = 0): Wait | Stop {
    const { baseDelayMs, maxDelayMs, maxAttempts, jitter, settledAfterMs } = this.#policy;
    if (nowMs - this.#openSinceMs >= settledAfterMs) this.failures = 0;
    const failures = (this.failures += 1);
    if (failures >= (maxAttempts ?? Infinity) || !this.mayRepeat(unsent)) return stop(reason, true);
    const firstMs = this.#retryMs ?? baseDelayMs;
    // From our own delay at the least: a `retry: 0` is for those who come back once.
    const grownMs = Math.max(firstMs, baseDelayMs) * 2 ** Math.min(failures - 1, 30);
    const growsMs = failures > 1 ? Math.min(grownMs, maxDelayMs) : 0;
    const leastMs = Math.max(firstMs, growsMs, atLeastMs);
    const delayMs = Math.min(leastMs * (1 + jitter * this.#random()), LONGEST_WAIT_MS);
    return { do: "wait", delayMs, reason, failures };
  }
}

function stop(reason: Reason, error: boolean): Stop {
  return { do: "stop", reason, error };
}

/** Whether an id can be in a header: no control characters, no half character, not too long. */
function isSendable(id: string): boolean {
  const bad = /[\0-\x08\n-\x1f\x7f\ud800-\udfff]/u;
  return !bad.test(id) && new TextEncoder().encode(id).length <= MAX_ID_BYTES;
}

/** HTTP takes the space around a header's value off; an id of space alone is none. */
function resumedId(id: string): string {
  return /[^ \t](.*[^ \t])?/su.exec(id)?.[0] ?? "";
}

function isStream(contentType: string | null): boolean {
  // Of several types the last counts, as in Fetch; a comma in quotes does not part them.
  const types = (contentType ?? "").replace(/"(\\[^]|[^"\\])*"?/g, '""').split(",");
  return /^[ \t]*text\/event-stream[ \t]*(;|$)/i.test(types[types.length - 1] ?? "");
}

function seconds(text: string | null): number {
  return /^\d+(\.\d+)?$/.test(text ?? "") ? Number(text) : NaN;
}

function announcedIdleMs(headers: Headings): number | null {
  const announcedMs = seconds(headers.get("stream-idle-limit")) * 1000;
  return Math.min(announcedMs, LONGEST_SILENCE_MS) || null;
}

/** Return what `Retry-After` asks for; a date counts from the answer's own `Date`. */
function retryAfterMs(headers: Headings): number {
  const asked = headers.get("retry-after");
  const dated = dateMs(asked) - dateMs(headers.get("date"));
  return seconds(asked) * 1000 || dated || 0;
}

function dateMs(text: string | null): number {
  const ms = Date.parse(text ?? "");
  // The only form in which a date may be sent (RFC 9110, 5.6.7); what comes back otherwise was read
  // otherwise than it is written.
  return text?.length === 29 && new Date(ms).toUTCString() === text ? ms : NaN;
}
