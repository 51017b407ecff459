/**
 * The two records of a stream on the page, the table of events and the text of its bytes, both
 * bounded: what is older goes, and is counted. Knows the page; knows nothing of connections.
 */

import { layOutJson } from "./json.js";

const MAX_EVENTS = 500;
const MAX_TEXT_CHARS = 64 * 1024;
const MAX_DATA_CHARS = 4 * 1024;

/** A table body with one row an event: the last 500. */
export class EventTable {
  #body;

  /** @param {HTMLTableSectionElement} body */
  constructor(body) {
    this.#body = body;
  }

  /** How many rows there are. */
  get size() {
    return this.#body.rows.length;
  }

  clear() {
    this.#body.replaceChildren();
  }

  /**
   * @param {import("./sse.js").StreamEvent} event
   * @param {number} sinceMs The time since the event before, or since the request.
   */
  add(event, sinceMs) {
    const tag = textElement("span", "tag", event.name);
    tag.dataset.event = event.name;
    const data = document.createElement("td");
    data.className = "data";
    data.append(...laidOut(event.data));
    const name = document.createElement("td");
    name.append(tag);
    const row = document.createElement("tr");
    row.append(
      name,
      data,
      textElement("td", "id", event.id),
      textElement("td", "since", duration(sinceMs)),
    );
    this.#body.append(row);
    if (this.size > MAX_EVENTS) this.#body.deleteRow(0);
  }
}

/** A text that grows at its end: the last 64 Ki characters. */
export class BoundedText {
  #text = document.createTextNode("");
  #dropped = false;

  /** @param {HTMLElement} element */
  constructor(element) {
    element.replaceChildren(this.#text);
  }

  /** Whether anything has been dropped. */
  get dropped() {
    return this.#dropped;
  }

  clear() {
    this.#text.data = "";
    this.#dropped = false;
  }

  /** @param {string} text */
  append(text) {
    const excess = this.#text.length + text.length - MAX_TEXT_CHARS;
    if (excess > 0) {
      this.#dropped = true;
      this.#text.deleteData(0, excess);
    }
    this.#text.appendData(text.slice(-MAX_TEXT_CHARS));
  }
}

/**
 * Return JSON laid out in coloured parts, and a text too long for that as its start.
 *
 * @param {string} text
 * @returns {(string | HTMLElement)[]}
 */
export function laidOut(text) {
  const excess = text.length - MAX_DATA_CHARS;
  if (excess > 0) {
    const note = `… and ${excess.toLocaleString("en")} more characters`;
    return [text.slice(0, MAX_DATA_CHARS), textElement("span", "note", note)];
  }
  return layOutJson(text).map((part) =>
    part.kind === "plain" ? part.text : textElement("span", part.kind, part.text),
  );
}

/**
 * @param {string} tagName
 * @param {string} className
 * @param {string} text
 */
function textElement(tagName, className, text) {
  const element = document.createElement(tagName);
  element.className = className;
  element.textContent = text;
  return element;
}

/** @param {number} ms */
function duration(ms) {
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
