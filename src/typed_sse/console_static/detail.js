/**
 * Shows one thing closely: an event with its payload and what does not fit, or an answer that is no
 * event stream. Knows the page; reads no stream.
 */

import { isOdd } from "./record.js";
import { part } from "./template.js";
import { counted, duration, laidOut, textElement } from "./text.js";

const MAX_DATA_CHARS = 64 * 1024;
const TELLING = new Set([
  "allow",
  "cache-control",
  "content-encoding",
  "content-length",
  "content-type",
  "location",
  "retry-after",
  "www-authenticate",
]);
const NO_CONTENT = 204;

/**
 * Show an event in `root`, or hide it if there is none.
 *
 * @param {HTMLElement} root
 * @param {import("./record.js").Entry | undefined} entry
 * @param {import("./tags.js").Tags} tags
 */
export function showEvent(root, entry, tags) {
  const event = entry?.kind === "event" ? entry : undefined;
  root.hidden = event === undefined;
  if (event === undefined) return;
  const facts = part(root, "facts", HTMLElement);
  const since = `${duration(event.sinceMs)} after the one before`;
  facts.replaceChildren(
    tags.tag(event.name),
    ...[
      event.id === "" ? "no id" : `id ${event.id}`,
      `event ${event.number.toLocaleString("en")}`,
      event.number === 1 ? `${duration(event.sinceMs)} after the request` : since,
      counted(event.data.length, "character"),
    ].map((text) => textElement("span", "fact", text)),
  );
  const problems = part(root, "problems", HTMLElement);
  problems.hidden = !isOdd(event);
  problems.replaceChildren(
    ...(event.known ? [] : [textElement("li", "", "The stream declares no event of this name.")]),
    ...event.misfits.map(({ path, message }) => {
      const problem = document.createElement("li");
      problem.append(textElement("code", "", path || "the payload"), ` ${message}`);
      return problem;
    }),
  );
  const marked = new Set(event.misfits.map(({ path }) => path));
  const payload = part(root, "payload", HTMLElement);
  payload.replaceChildren(...laidOut(event.data, { marked, maxChars: MAX_DATA_CHARS }));
}

/**
 * Show an answer that is no event stream in `root`, or hide it if there is none.
 *
 * @param {HTMLElement} root
 * @param {import("./connection.js").Refusal | undefined} refusal
 */
export function showRefusal(root, refusal) {
  root.hidden = refusal === undefined;
  if (refusal === undefined) return;
  part(root, "status", HTMLElement).textContent = statusLine(refusal);
  part(root, "meaning", HTMLElement).textContent = meaningOf(refusal);
  const told = [...refusal.headers].filter(([name]) => TELLING.has(name) || name.startsWith("x-"));
  part(root, "headers", HTMLElement).replaceChildren(
    ...told.flatMap(([name, value]) => [textElement("dt", "", name), textElement("dd", "", value)]),
  );
  const body = part(root, "body", HTMLElement);
  body.replaceChildren(...laidOut(refusal.body, { maxChars: MAX_DATA_CHARS }));
  if (refusal.body === "") body.append(textElement("span", "note", "The answer has no body."));
  const note = "\n… cut here, after 64 Ki characters";
  if (refusal.cut) body.append(textElement("span", "note", note));
}

/** @param {import("./connection.js").Refusal} refusal */
export function statusLine({ status, reason }) {
  return `${status} ${reason}`.trimEnd();
}

/** @param {import("./connection.js").Refusal} refusal */
function meaningOf({ status, headers }) {
  if (status === NO_CONTENT) {
    return "There is nothing to stream; an EventSource would not come back.";
  }
  if (status >= 400) return "The server has refused to stream.";
  const type = headers.get("content-type");
  return `The answer is no event stream: ${type ?? "it has no content type"}.`;
}
