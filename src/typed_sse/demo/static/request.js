/**
 * What is sent for a stream of the demo. Knows how a value gets into a URL and a JSON body; sends
 * nothing.
 */

/**
 * Return the request that opens `stream` with `value` in its one field.
 *
 * @param {import("./catalog.js").Stream} stream
 * @param {string} value
 * @param {string} origin
 * @returns {import("./docs/events/curl.js").StreamRequest}
 */
export function requestFor(stream, value, origin) {
  const url = new URL(stream.path, origin);
  if (stream.method === "GET") {
    url.searchParams.set(stream.field.name, value);
    return { url: url.href, init: { method: "GET" } };
  }
  return {
    url: url.href,
    init: {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ [stream.field.name]: value }),
    },
  };
}
