/**
 * What is sent for a stream: one description, for fetch and for curl, so that they cannot differ.
 *
 * Knows how a value gets into a URL, a JSON body and a shell's word; sends nothing.
 */

/**
 * @typedef {object} StreamRequest
 * @property {string} url
 * @property {{ method: string, headers?: Record<string, string>, body?: string }} init
 */

/**
 * Return the request that opens `stream` with `value` in its one field.
 *
 * @param {import("./catalog.js").Stream} stream
 * @param {string} value
 * @param {string} origin
 * @returns {StreamRequest}
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

/**
 * Return the command that sends the same from a POSIX shell.
 *
 * @param {StreamRequest} request
 */
export function curlCommand({ url, init }) {
  const words = ["curl", "-N", shellWord(url)];
  for (const [name, value] of Object.entries(init.headers ?? {})) {
    words.push("-H", shellWord(`${name}: ${value}`));
  }
  // --data-raw and not -d, for which a leading @ would name a file.
  if (init.body !== undefined) words.push("--data-raw", shellWord(init.body));
  return words.join(" ");
}

/** @param {string} text */
function shellWord(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
