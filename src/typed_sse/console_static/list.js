/**
 * A list on the page of which only the part in view exists, however long it is.
 *
 * Knows scrolling and the keyboard; what a row looks like is for its owner to say.
 */

const OVERSCAN_ROWS = 8;

/**
 * Rows of one height each, the newest at the bottom: it follows them until somebody scrolls up.
 *
 * Invariants:
 * 1. No more rows are on the page than are in view, and eight before and behind.
 * 2. `#pool` has these rows in order; the first shows item `#first`.
 *
 * @template T
 */
export class LongList {
  #box;
  #draw;
  #onSelect;
  #spacer = document.createElement("div");
  #window = document.createElement("div");
  /** @type {HTMLElement[]} */
  #pool = [];
  /** @type {readonly T[]} */
  #items = [];
  /** @type {T | undefined} */
  #selected = undefined;
  #rowPx = 0;
  #following = true;
  #gone = 0;

  /**
   * @param {HTMLElement} box Scrolls, and has the role `listbox`.
   * @param {(item: T) => Node[]} draw Returns what a row has in it.
   * @param {(item: T | undefined) => void} onSelect
   */
  constructor(box, draw, onSelect) {
    this.#box = box;
    this.#draw = draw;
    this.#onSelect = onSelect;
    this.#spacer.className = "spacer";
    this.#spacer.setAttribute("role", "presentation");
    this.#window.className = "window";
    this.#window.setAttribute("role", "presentation");
    this.#spacer.append(this.#window);
    box.replaceChildren(this.#spacer);
    box.addEventListener("scroll", () => {
      this.#following = this.#isAtEnd();
      this.#render();
    });
    box.addEventListener("keydown", (press) => this.#press(press));
    box.addEventListener("click", (click) => this.#click(click));
    // The height of a row changes with the size of the text, and with the width of the box.
    new ResizeObserver(() => {
      this.#rowPx = 0;
      this.#place();
    }).observe(box);
  }

  /** Whether the newest rows are kept in view. */
  get isFollowing() {
    return this.#following;
  }

  /** The item that is selected. */
  get selected() {
    return this.#selected;
  }

  /**
   * Show these items.
   *
   * @param {readonly T[]} items
   * @param {number} gone How many have gone from their front since the list is there.
   */
  show(items, gone) {
    // What is in view stays where it is when rows above it go.
    const shift = gone > this.#gone ? gone - this.#gone : 0;
    this.#items = items;
    this.#gone = gone;
    if (shift > 0 && !this.#following) this.#box.scrollTop -= shift * this.#rowPx;
    this.#place();
  }

  /** Go to the newest row, and stay with it. */
  follow() {
    this.#following = true;
    this.#place();
  }

  /** @param {T | undefined} item */
  select(item) {
    this.#selected = item;
    this.#onSelect(item);
    this.#render();
  }

  #place() {
    // Nothing has a height on a page that is hidden.
    if (this.#box.clientHeight === 0) return;
    if (this.#rowPx === 0) this.#measure();
    this.#spacer.style.height = `${this.#items.length * this.#rowPx}px`;
    if (this.#following) this.#box.scrollTop = this.#box.scrollHeight;
    this.#render();
  }

  #measure() {
    const row = this.#newRow();
    row.textContent = "x";
    this.#window.append(row);
    this.#rowPx = Math.max(row.getBoundingClientRect().height, 1);
    row.remove();
  }

  #isAtEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.#box;
    return scrollTop + clientHeight >= scrollHeight - Math.max(this.#rowPx / 2, 1);
  }

  #render() {
    if (this.#rowPx === 0) return;
    const inView = Math.ceil(this.#box.clientHeight / this.#rowPx) + 2 * OVERSCAN_ROWS;
    const top = Math.floor(this.#box.scrollTop / this.#rowPx) - OVERSCAN_ROWS;
    const first = Math.max(0, Math.min(top, this.#items.length - inView));
    const rows = this.#items.slice(first, first + inView);
    while (this.#pool.length > rows.length) this.#pool.pop()?.remove();
    while (this.#pool.length < rows.length) {
      const row = this.#newRow();
      this.#pool.push(row);
      this.#window.append(row);
    }
    this.#window.style.transform = `translateY(${first * this.#rowPx}px)`;
    this.#box.removeAttribute("aria-activedescendant");
    for (const [at, item] of rows.entries()) {
      const row = this.#pool[at];
      if (row !== undefined) this.#fill(row, item, first + at);
    }
  }

  /**
   * @param {HTMLElement} row
   * @param {T} item
   * @param {number} at
   */
  #fill(row, item, at) {
    if (items.get(row) !== item) {
      row.replaceChildren(...this.#draw(item));
      items.set(row, item);
    }
    row.id = `${this.#box.id}-${at % 1000}`;
    row.setAttribute("aria-posinset", String(at + 1));
    row.setAttribute("aria-setsize", String(this.#items.length));
    row.setAttribute("aria-selected", String(item === this.#selected));
    if (item === this.#selected) this.#box.setAttribute("aria-activedescendant", row.id);
  }

  #newRow() {
    const row = document.createElement("div");
    row.className = "row";
    row.setAttribute("role", "option");
    return row;
  }

  /** @param {MouseEvent} click */
  #click(click) {
    const row = click.target instanceof Element ? click.target.closest(".row") : null;
    if (row === null) return;
    const item = /** @type {T | undefined} */ (items.get(row));
    this.select(item === this.#selected ? undefined : item);
  }

  /** @param {KeyboardEvent} press */
  #press(press) {
    if (press.altKey || press.ctrlKey || press.metaKey) return;
    if (press.key === "Escape" && this.#selected !== undefined) this.select(undefined);
    else {
      const to = this.#target(press.key);
      if (to === undefined || this.#items.length === 0) return;
      const at = Math.max(0, Math.min(to, this.#items.length - 1));
      this.#scrollTo(at);
      this.select(this.#items[at]);
    }
    press.preventDefault();
  }

  /**
   * @param {string} key
   * @returns {number | undefined}
   */
  #target(key) {
    const last = this.#items.length - 1;
    const known = this.#selected === undefined ? -1 : this.#items.indexOf(this.#selected);
    const page = Math.max(1, Math.floor(this.#box.clientHeight / (this.#rowPx || 1)) - 1);
    // With nothing selected, the keys begin at the newest.
    const at = known < 0 ? last + 1 : known;
    switch (key) {
      case "ArrowDown":
        return known < 0 ? last : at + 1;
      case "ArrowUp":
        return at - 1;
      case "PageDown":
        return at + page;
      case "PageUp":
        return at - page;
      case "Home":
        return 0;
      case "End":
        return last;
      default:
        return undefined;
    }
  }

  /** @param {number} at */
  #scrollTo(at) {
    const top = at * this.#rowPx;
    const { scrollTop, clientHeight } = this.#box;
    if (top < scrollTop) this.#box.scrollTop = top;
    else if (top + this.#rowPx > scrollTop + clientHeight) {
      this.#box.scrollTop = top + this.#rowPx - clientHeight;
    }
    this.#following = at === this.#items.length - 1;
  }
}

/** @type {WeakMap<Element, unknown>} Which item a row shows. */
const items = new WeakMap();
