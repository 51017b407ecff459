/**
 * What the client says of a stream, in words for the page. Knows its states, reasons and errors;
 * shows nothing.
 */

import { ConnectionFailed, NotAStream } from "./typed-sse.js";

/** @typedef {import("./typed-sse.js").StreamState} StreamState */

/** @type {Partial<Record<string, string>>} */
const WHY = {
  unreachable: "no answer",
  // A page is not told whether its request was sent.
  unanswered: "no answer",
  cut: "cut off",
  idle: "nothing came for too long",
  ended: "ended by the server",
  status: "refused for now",
  "no-content": "ended by the server",
  terminal: "complete",
  "stream.end": "ended by the server",
  "stream.error": "failed",
  hidden: "this page is not shown",
  offline: "this computer is offline",
};

/**
 * Return why a stream waits or is closed.
 *
 * @param {StreamState["reason"]} reason
 */
export function why(reason) {
  return WHY[reason ?? ""] ?? String(reason);
}

/** @param {number} ms */
export function secondsText(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

/**
 * Return until when a stream waits, and why.
 *
 * @param {StreamState} state
 */
export function waitText({ delayMs, reason }) {
  const until = delayMs === undefined ? "waiting" : `retry in ${secondsText(delayMs)}`;
  return `${until}: ${why(reason)}`;
}

/**
 * Return how a stream has ended.
 *
 * @param {StreamState} state
 * @param {string} closed What to say where the page has closed it.
 * @returns {{ kind: "idle" | "ended" | "failed", text: string }}
 */
export function endOf({ reason, error }, closed) {
  const failed = error !== undefined || reason === "stream.error";
  if (failed) return { kind: "failed", text: failureText(reason, error) };
  return reason ? { kind: "ended", text: why(reason) } : { kind: "idle", text: closed };
}

/**
 * @param {StreamState["reason"]} reason
 * @param {unknown} error
 */
function failureText(reason, error) {
  if (error instanceof NotAStream) {
    if (reason === "status") return `refused: ${error.status}`;
    return `no event stream: ${error.contentType.slice(0, 80) || "of no type"}`;
  }
  if (error instanceof ConnectionFailed) {
    return `${reason === "ended" ? "ended before its last event" : why(reason)}; not sent again`;
  }
  return error instanceof Error ? `given up: ${error.message}` : why(reason);
}
