/**
 * Sends one request, reads its answer to the end, and says how that went.
 *
 * Knows fetch and the ways it fails; knows nothing of events or of the page.
 */

/**
 * @typedef {import("./curl.js").StreamRequest} StreamRequest
 *
 * @typedef {object} Refusal An answer that is no event stream.
 * @property {"refused"} kind
 * @property {number} status
 * @property {string} reason
 * @property {Headers} headers
 * @property {string} body Its first 64 Ki characters.
 * @property {boolean} cut Whether the body goes on.
 *
 * @typedef {{ kind: "ended" }
 *   | { kind: "stopped" }
 *   | { kind: "unreachable" }
 *   | { kind: "lost" }
 *   | Refusal} Outcome
 */

const MAX_REFUSAL_CHARS = 64 * 1024;

/**
 * Read one stream until it ends, is cut, or `signal` is aborted.
 *
 * An answer that is no event stream is read too, up to 64 Ki characters, and comes back as
 * `refused`.
 *
 * @param {StreamRequest} request
 * @param {AbortSignal} signal
 * @param {object} reader
 * @param {() => void} reader.onOpen The answer is an event stream and its headers are here.
 * @param {(bytes: Uint8Array) => void} reader.onBytes Of the stream, and of a refusal's body.
 * @returns {Promise<Outcome>} Rejects only with what `onOpen` or `onBytes` throws.
 */
export async function readStream(request, signal, { onOpen, onBytes }) {
  let response;
  try {
    response = await fetch(request.url, { ...request.init, signal, cache: "no-store" });
  } catch {
    return { kind: signal.aborted ? "stopped" : "unreachable" };
  }
  if (isEventStream(response)) {
    onOpen();
    return readToEnd(response.body, signal, (bytes) => {
      onBytes(bytes);
      return true;
    });
  }
  let body = "";
  const decoder = new TextDecoder();
  const outcome = await readToEnd(response.body, signal, (bytes) => {
    onBytes(bytes);
    body += decoder.decode(bytes, { stream: true });
    return body.length <= MAX_REFUSAL_CHARS;
  });
  if (outcome.kind === "stopped") return outcome;
  return {
    kind: "refused",
    status: response.status,
    reason: response.statusText,
    headers: response.headers,
    body: body.slice(0, MAX_REFUSAL_CHARS),
    cut: body.length > MAX_REFUSAL_CHARS,
  };
}

/** @param {Response} response */
function isEventStream(response) {
  const type = response.headers.get("content-type") ?? "";
  return response.ok && /^text\/event-stream\s*(;|$)/i.test(type);
}

/**
 * @param {ReadableStream<Uint8Array> | null} body
 * @param {AbortSignal} signal
 * @param {(bytes: Uint8Array) => boolean} take Returns whether to read on.
 * @returns {Promise<Outcome>}
 */
async function readToEnd(body, signal, take) {
  if (body === null) return { kind: "ended" };
  const reader = body.getReader();
  try {
    for (;;) {
      let chunk;
      try {
        chunk = await reader.read();
      } catch {
        return { kind: signal.aborted ? "stopped" : "lost" };
      }
      if (chunk.done || !take(chunk.value)) return { kind: "ended" };
    }
  } finally {
    // Frees the connection where `take` stopped early or threw; a stream that has already failed
    // rejects with the failure that was reported above.
    reader.cancel().catch(() => {});
  }
}
