/**
 * What is sent for a stream of the demo. Knows how a value gets into a URL and a JSON body; sends
 * nothing.
 */

/**
 * @typedef {object} Sent
 * @property {string} method
 * @property {string} url
 * @property {Record<string, string>} [body] Sent as JSON.
 */

/**
 * Return the request that opens `stream` with `value` in its one field.
 *
 * @param {import("./catalog.js").Stream} stream
 * @param {string} value
 * @param {string} origin
 * @returns {Sent}
 */
export function requestFor({ method, path, field }, value, origin) {
  const url = new URL(path, origin);
  if (method !== "GET") return { method, url: url.href, body: { [field.name]: value } };
  url.searchParams.set(field.name, value);
  return { method, url: url.href };
}

/**
 * Return the same, as curl is to send it.
 *
 * @param {Sent} sent
 * @returns {import("./docs/events/curl.js").StreamRequest}
 */
export function forCurl({ method, url, body }) {
  if (body === undefined) return { url, init: { method } };
  const headers = { "Content-Type": "application/json" };
  return { url, init: { method, headers, body: JSON.stringify(body) } };
}
