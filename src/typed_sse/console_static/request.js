/**
 * What is sent for an operation, made of what its form holds. Knows how a value gets into a path, a
 * query, a header and a body; sends nothing.
 */

import { LAST_EVENT_ID } from "./document.js";

/**
 * @typedef {import("./document.js").Operation} Operation
 * @typedef {import("./curl.js").StreamRequest} StreamRequest
 *
 * @typedef {object} Values What a form holds; what is empty is not there.
 * @property {{ parameter: import("./document.js").Parameter, values: string[] }[]} parameters
 * @property {{ credential: import("./document.js").Credential, secret: string }[]} credentials
 * @property {string | undefined} body
 */

/**
 * Return the request that opens a stream.
 *
 * @param {Operation} operation
 * @param {Values} values
 * @param {string} root Where the application's `/` is.
 * @param {string} [lastEventId] Of a stream that is to be continued; wins over the form.
 * @returns {StreamRequest}
 */
export function requestOf(operation, values, root, lastEventId = "") {
  let path = operation.path.replace(/^\//, "");
  const query = new URLSearchParams();
  /** @type {Map<string, [string, string]>} */
  const headers = new Map();
  const setHeader = (/** @type {string} */ name, /** @type {string} */ value) =>
    headers.set(name.toLowerCase(), [name, value]);
  for (const { parameter, values: given } of values.parameters) {
    const { name } = parameter;
    if (parameter.in === "path") {
      path = path.replaceAll(`{${name}}`, () => encodeURIComponent(given.join(",")));
    } else if (parameter.in === "query") {
      for (const one of given) query.append(name, one);
    } else if (parameter.in === "header") {
      setHeader(name, given.join(", "));
    }
  }
  for (const { credential, secret } of values.credentials) {
    const { kind, name } = credential;
    if (kind === "query") query.append(name, secret);
    else if (kind === "header") setHeader(name, secret);
    else if (kind === "bearer") setHeader(name, `Bearer ${secret}`);
    else if (kind === "basic") setHeader(name, `Basic ${btoa(asBytes(secret))}`);
  }
  if (lastEventId !== "") setHeader(LAST_EVENT_ID, lastEventId);
  if (values.body !== undefined) setHeader("Content-Type", operation.body?.mediaType ?? "");
  // Not resolved against the root: a path may begin with what looks like a scheme.
  const url = new URL(root + path);
  url.search = query.toString();
  return {
    url: url.href,
    init: {
      method: operation.method,
      ...(headers.size > 0 && { headers: Object.fromEntries(headers.values()) }),
      ...(values.body !== undefined && { body: values.body }),
    },
  };
}

/**
 * Return the request with the values of its headers as the bytes of their UTF-8, one character
 * each: fetch takes no others.
 *
 * @param {StreamRequest} request
 * @returns {StreamRequest}
 */
export function forFetch({ url, init }) {
  const headers = Object.entries(init.headers ?? {}).map(([name, text]) => [name, asBytes(text)]);
  return { url, init: { ...init, headers: Object.fromEntries(headers) } };
}

/** @param {string} text */
function asBytes(text) {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}
