/**
 * The name of an event as a coloured tag, the same wherever it is shown. Knows nothing of payloads.
 */

import { textElement } from "./text.js";

// Far from each other, and from the two that mean something.
const HUES = [255, 320, 70, 200, 290, 100, 225, 345];
const GOOD_HUE = 152;
const BAD_HUE = 27;
const CHROMA = "0.11";
const MAX_HUES = 40;
const ERROR_EVENT = "stream.error";

/** The tags of one stream's events. */
export class Tags {
  /** @type {Map<string, number>} */
  #hues = new Map([[ERROR_EVENT, BAD_HUE]]);
  #open;

  /** @param {import("./document.js").EventType[] | undefined} types */
  constructor(types) {
    this.#open = types === undefined;
    for (const { name, terminal } of types ?? []) this.#add(name, terminal);
  }

  /**
   * Return a new tag; a grey one for an event that the stream does not declare.
   *
   * @param {string} name
   */
  tag(name) {
    // A stream that declares nothing gets its colours as its events come.
    if (this.#open && this.#hues.size < MAX_HUES) this.#add(name, false);
    const tag = textElement("span", "tag", name);
    const hue = this.#hues.get(name);
    if (hue !== undefined) {
      tag.style.setProperty("--hue", String(hue));
      tag.style.setProperty("--chroma", CHROMA);
    }
    return tag;
  }

  /**
   * @param {string} name
   * @param {boolean} terminal
   */
  #add(name, terminal) {
    if (this.#hues.has(name)) return;
    const hue = HUES[(this.#hues.size - 1) % HUES.length] ?? 0;
    this.#hues.set(name, terminal ? GOOD_HUE : hue);
  }
}
