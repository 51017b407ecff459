/**
 * Text on the page: JSON laid out, a text that grows and stays bounded, spans of time and counts.
 *
 * Everything that comes from elsewhere gets onto the page as text, never as markup.
 */

import { layOutJson } from "./json.js";

const MAX_TEXT_CHARS = 64 * 1024;
const MAX_DATA_CHARS = 4 * 1024;

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
 * @param {object} [options]
 * @param {ReadonlySet<string>} [options.marked] The JSON pointers of what is to stand out.
 * @param {number} [options.maxChars] 4 Ki by default.
 * @returns {(string | HTMLElement)[]}
 */
export function laidOut(text, { marked = new Set(), maxChars = MAX_DATA_CHARS } = {}) {
  const excess = text.length - maxChars;
  if (excess > 0) {
    const note = `… and ${excess.toLocaleString("en")} more characters`;
    return [text.slice(0, maxChars), textElement("span", "note", note)];
  }
  return layOutJson(text).map((part) => {
    const stands = part.path !== undefined && marked.has(part.path);
    if (stands) return textElement("mark", part.kind, part.text);
    return part.kind === "plain" ? part.text : textElement("span", part.kind, part.text);
  });
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tagName
 * @param {string} className
 * @param {string} [text]
 */
export function textElement(tagName, className, text = "") {
  const element = document.createElement(tagName);
  element.className = className;
  element.textContent = text;
  return element;
}

/** @param {number} ms */
export function duration(ms) {
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** @param {number} perSecond */
export function rateText(perSecond) {
  return `${perSecond.toFixed(perSecond < 100 ? 1 : 0)} events/s`;
}
