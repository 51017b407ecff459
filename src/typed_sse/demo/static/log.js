/**
 * The table of a stream's events on the page, bounded: what is older goes. Knows the page; knows
 * nothing of connections.
 */

import { duration, laidOut, textElement } from "./docs/events/text.js";

const MAX_EVENTS = 500;

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
   * @param {{ event: string, data: string, id: string }} event
   * @param {number} sinceMs The time since the event before, or since the request.
   * @param {boolean} again Whether it is the first of another connection.
   */
  add({ event, data: text, id }, sinceMs, again) {
    const tag = textElement("span", "tag", event);
    tag.dataset.event = event;
    const data = document.createElement("td");
    data.className = "data";
    data.append(...laidOut(text));
    const name = document.createElement("td");
    name.append(tag);
    const row = document.createElement("tr");
    row.classList.toggle("again", again);
    row.append(
      name,
      data,
      textElement("td", "id", id),
      textElement("td", "since", duration(sinceMs)),
    );
    this.#body.append(row);
    if (this.size > MAX_EVENTS) this.#body.deleteRow(0);
  }
}
