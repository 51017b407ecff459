/**
 * What goes wrong, told apart by class. Data sits in fields, the message is built from them. What
 * has come over the wire is in a message only in plain ASCII, and cut.
 */

import type { Message } from "./parser.ts";
import type { Reason } from "./reconnect.ts";

/** The root of every error that typed-sse makes by itself. */
export class TypedSSEError extends Error {
  constructor(name: string, message: string, fields: object = {}) {
    super(message);
    Object.assign(this, { name }, fields);
  }
}

/** One event of the stream is larger than its reader may hold. */
export class EventTooLarge extends TypedSSEError {
  declare readonly limitChars: number;

  constructor(limitChars: number) {
    const message = `an event is larger than maxEventChars=${limitChars}; raise it if need be`;
    super("EventTooLarge", message, { limitChars });
  }
}

/** A URL was asked for an event stream, and has answered something else. */
export class NotAStream extends TypedSSEError {
  /** `status`, or `content-type` where the status is 200. */
  declare readonly reason: Reason;
  /** What has answered, without query and fragment. */
  declare readonly url: string;
  declare readonly status: number;
  /** The answer's `Content-Type`, empty where there is none. */
  declare readonly contentType: string;
  /** The start of the answer's body, 2 KiB at the most. It comes from elsewhere: escape it. */
  declare readonly start: string;

  constructor(fields: {
    reason: Reason;
    url: string;
    status: number;
    contentType: string;
    start: string;
  }) {
    const { url, status, contentType } = fields;
    super("NotAStream", `no stream: ${url} answers ${status}, ${shown(contentType)}`, fields);
  }
}

/** The stream is lost, or was never reached, and the policy is not to come back. */
export class ConnectionFailed extends TypedSSEError {
  declare readonly reason: Reason;
  /** How many connections in a row have brought nothing. */
  declare readonly failures: number;
  /** Behind which the stream could go on, `""` where there is no id. */
  declare readonly lastEventId: string;

  /** @param fields `cause` is what `fetch` or the caller's `headers` has thrown. */
  constructor(fields: { reason: Reason; failures: number; lastEventId: string; cause: unknown }) {
    const { reason, failures } = fields;
    super(
      "ConnectionFailed",
      `the stream is lost: ${reason}; ${failures} failures in a row`,
      fields,
    );
  }
}

/** An event has come whose data `parse` or `validate` has refused: their error is the `cause`. */
export class MalformedData extends TypedSSEError {
  /** The event, as it came. */
  declare readonly received: Message;

  constructor(received: Message, cause: unknown) {
    super("MalformedData", `the data of ${shown(received.event)} does not fit`, {
      received,
      cause,
    });
  }
}

/** An event has come that is none of `events`, and `unknown` says that this is an error. */
export class UnknownEvent extends TypedSSEError {
  /** The event, as it came. */
  declare readonly received: Message;

  constructor(received: Message) {
    super("UnknownEvent", `${shown(received.event)} is not declared`, { received });
  }
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 80)).replace(/[^ -~]/g, "?");
}
