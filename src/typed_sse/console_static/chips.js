/**
 * The row of buttons that filters events by name: each with its count, all of them shown while none
 * is pressed. Knows the page; filters nothing itself.
 */

import { textElement } from "./text.js";

/** The buttons of one stream. */
export class Chips {
  #odd;
  #tags;
  #onChange;
  /** @type {Set<string>} */
  #names = new Set();
  #onlyOdd = false;
  /** @type {Map<string, HTMLElement>} Event name -> where its count is. */
  #counts = new Map();

  /**
   * @param {HTMLButtonElement} odd Stands for what does not fit; the others go before it.
   * @param {import("./tags.js").Tags} tags
   * @param {(names: ReadonlySet<string>, onlyOdd: boolean) => void} onChange
   */
  constructor(odd, tags, onChange) {
    this.#odd = odd;
    this.#tags = tags;
    this.#onChange = onChange;
    odd.addEventListener("click", () => {
      this.#onlyOdd = !this.#onlyOdd;
      this.#press(odd, this.#onlyOdd);
    });
  }

  /**
   * @param {ReadonlyMap<string, number>} counts
   * @param {number} odd How many events do not fit.
   */
  show(counts, odd) {
    for (const [name, count] of counts) {
      let shown = this.#counts.get(name);
      if (shown === undefined) {
        shown = this.#add(name);
        this.#counts.set(name, shown);
      }
      shown.textContent = count.toLocaleString("en");
    }
    for (const [name, shown] of this.#counts) {
      // One that is pressed stays, so that it can be let go.
      const chip = shown.closest("button");
      if (chip && !counts.has(name)) chip.hidden = !this.#names.has(name);
      else if (chip) chip.hidden = false;
    }
    this.#odd.hidden = odd === 0 && !this.#onlyOdd;
    this.#odd.textContent = `does not fit ${odd.toLocaleString("en")}`;
  }

  /** @param {string} name */
  #add(name) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.className = "chip";
    chip.setAttribute("aria-pressed", "false");
    const count = textElement("span", "count");
    chip.append(this.#tags.tag(name), " ", count);
    chip.addEventListener("click", () => {
      const isPressed = !this.#names.delete(name);
      if (isPressed) this.#names.add(name);
      this.#press(chip, isPressed);
    });
    this.#odd.before(chip);
    return count;
  }

  /**
   * @param {HTMLElement} chip
   * @param {boolean} isPressed
   */
  #press(chip, isPressed) {
    chip.setAttribute("aria-pressed", String(isPressed));
    this.#onChange(this.#names, this.#onlyOdd);
  }
}
