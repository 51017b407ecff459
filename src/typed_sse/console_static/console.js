/**
 * The page: reads the document, lists its streams, and shows the one that the address names.
 *
 * Knows the frame and the address; everything of a stream is its view's.
 */

import { streamsOf } from "./document.js";
import { listenForKeys } from "./keys.js";
import { OperationView } from "./operation.js";
import { Schemas } from "./schema.js";
import { clone, part } from "./template.js";
import { counted, textElement } from "./text.js";

/** @typedef {import("./document.js").Operation} Operation */

const MAX_SHOWN_ANSWER_CHARS = 2000;

/**
 * The list of streams and the view of one of them.
 *
 * Invariants:
 * 1. A view is made when its stream is first looked at, and kept: what is open stays open.
 * 2. At most one view is on the page.
 */
class Console {
  #operations;
  #schemas;
  #rootUrl;
  #title = document.title;
  /** @type {Map<string, OperationView>} */
  #views = new Map();
  /** @type {Map<string, HTMLAnchorElement[]>} A link in every group that the stream is in. */
  #links = new Map();
  /** @type {string | undefined} */
  #current = undefined;
  #main = part(document.body, "main", HTMLElement);
  #notice = part(document.body, "notice", HTMLElement);
  #filter = part(document.body, "filter", HTMLInputElement);

  /**
   * @param {Record<string, any>} description The OpenAPI document.
   * @param {string} rootUrl Where the application's `/` is.
   */
  constructor(description, rootUrl) {
    this.#schemas = new Schemas(description);
    this.#operations = grouped(streamsOf(description, this.#schemas));
    this.#rootUrl = rootUrl;
    this.#list();
    this.#filter.addEventListener("input", () => this.#applyFilter());
    window.addEventListener("hashchange", () => this.#follow(true));
    this.#follow(false);
  }

  /** The view that is on the page. */
  get view() {
    return this.#current === undefined ? undefined : this.#views.get(this.#current);
  }

  /** Go to the field that filters the list. */
  focusFilter() {
    this.#filter.focus();
    this.#filter.select();
  }

  /**
   * Go to the next stream of the list, or the one before.
   *
   * @param {1 | -1} step
   */
  move(step) {
    const shown = this.#operations.filter((operation) => this.#isListed(operation));
    const at = shown.findIndex(({ key }) => key === this.#current);
    const next = shown[at < 0 ? 0 : at + step];
    if (next) location.hash = hashOf(next);
  }

  #list() {
    /** @type {Map<string, Operation[]>} */
    const groups = new Map();
    for (const operation of this.#operations) {
      for (const tag of operation.tags) groups.set(tag, [...(groups.get(tag) ?? []), operation]);
    }
    const sections = [...groups].map(([tag, operations]) => {
      const group = textElement("div", "group");
      const list = document.createElement("ul");
      list.append(...operations.map((operation) => this.#link(operation)));
      if (tag !== "") group.append(textElement("h2", "", tag));
      group.append(list);
      return group;
    });
    part(document.body, "groups", HTMLElement).replaceChildren(...sections);
    part(document.body, "list-label", HTMLElement).textContent = counted(
      this.#operations.length,
      "stream",
    );
  }

  /** @param {Operation} operation */
  #link(operation) {
    const item = clone("link");
    const link = part(item, "link", HTMLAnchorElement);
    link.href = hashOf(operation);
    link.dataset.state = "idle";
    part(item, "method", HTMLElement).textContent = operation.method;
    part(item, "path", HTMLElement).textContent = operation.path;
    part(item, "summary", HTMLElement).textContent = operation.summary;
    this.#links.set(operation.key, [...(this.#links.get(operation.key) ?? []), link]);
    return item;
  }

  #applyFilter() {
    let count = 0;
    for (const operation of this.#operations) {
      const listed = this.#isListed(operation);
      if (listed) count += 1;
      for (const link of this.#links.get(operation.key) ?? []) {
        const item = link.closest("li");
        if (item) item.hidden = !listed;
      }
    }
    for (const group of document.querySelectorAll(".group")) {
      const some = group.querySelector("li:not([hidden])");
      /** @type {HTMLElement} */ (group).hidden = some === null;
    }
    part(document.body, "found", HTMLElement).textContent =
      this.#filter.value === "" ? "" : `${counted(count, "stream")} found`;
  }

  /** @param {Operation} operation */
  #isListed({ method, path, summary, tags, events }) {
    const names = (events ?? []).map(({ name }) => name);
    const text = [method, path, summary, ...tags, ...names].join(" ").toLowerCase();
    const words = this.#filter.value.toLowerCase().split(/\s+/);
    return words.every((word) => text.includes(word));
  }

  /** @param {boolean} moved Whether somebody has gone there, and the focus should follow. */
  #follow(moved) {
    const asked = decoded(location.hash.slice(1));
    const operation = this.#operations.find(({ key }) => key === asked);
    if (this.#operations.length === 0) {
      this.#say("This application has no event streams.");
    } else if (operation === undefined && asked !== "") {
      this.#say(`There is no stream “${asked}” in this application.`);
    } else {
      this.#show(operation ?? /** @type {Operation} */ (this.#operations[0]), moved);
    }
  }

  /**
   * @param {Operation} operation
   * @param {boolean} moved
   */
  #show(operation, moved) {
    this.#current = operation.key;
    let view = this.#views.get(operation.key);
    if (view === undefined) {
      const links = this.#links.get(operation.key) ?? [];
      view = new OperationView(operation, {
        schemas: this.#schemas,
        rootUrl: this.#rootUrl,
        prefix: `stream-${this.#views.size}`,
        onState: (state) => {
          for (const link of links) {
            link.dataset.state = state;
            part(link, "spoken-state", HTMLElement).textContent = state === "open" ? "open" : "";
          }
        },
      });
      this.#views.set(operation.key, view);
    }
    this.#notice.hidden = true;
    this.#main.replaceChildren(this.#notice, view.root);
    view.shown();
    document.title = `${operation.method} ${operation.path} - ${this.#title}`;
    this.#markCurrent();
    if (moved) part(view.root, "title", HTMLElement).focus();
  }

  /** @param {string} text */
  #say(text) {
    this.#current = undefined;
    this.#notice.hidden = false;
    this.#notice.textContent = text;
    this.#main.replaceChildren(this.#notice);
    this.#markCurrent();
  }

  #markCurrent() {
    for (const [key, links] of this.#links) {
      for (const link of links) {
        if (key === this.#current) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    }
  }
}

/**
 * Return the streams in the order in which the list has them: those of a tag together.
 *
 * @param {Operation[]} operations
 */
function grouped(operations) {
  const tags = [...new Set(operations.flatMap((operation) => operation.tags))];
  const first = (/** @type {Operation} */ { tags: [tag = ""] }) => tags.indexOf(tag);
  return operations.toSorted((one, other) => first(one) - first(other));
}

/** @param {Operation} operation */
function hashOf({ key }) {
  return `#${encodeURIComponent(key)}`;
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Read the document, or say why that cannot be done.
 *
 * @param {string} url
 * @returns {Promise<Record<string, any>>}
 */
async function read(url) {
  const response = await fetch(url, { cache: "no-cache" });
  const text = await response.text();
  if (!response.ok) {
    throw new Error(`${response.status} ${response.statusText} ${text}`.trim());
  }
  return JSON.parse(text);
}

const { root = "./", document: documentUrl = "" } = document.documentElement.dataset;
/** @type {Console | undefined} */
let page;
try {
  page = new Console(await read(documentUrl), new URL(root, location.href).href);
} catch (error) {
  const notice = part(document.body, "notice", HTMLElement);
  notice.classList.add("error");
  notice.textContent =
    `The document ${documentUrl} cannot be read: ${error}`.slice(0, MAX_SHOWN_ANSWER_CHARS);
}

part(document.body, "skip", HTMLAnchorElement).addEventListener("click", (click) => {
  click.preventDefault(); // the address names a stream, not a place on the page
  part(document.body, "main", HTMLElement).focus();
});
listenForKeys(
  part(document.body, "help", HTMLDialogElement),
  part(document.body, "open-help", HTMLButtonElement),
  [
    { key: "c", does: "Connect", run: () => void page?.view?.connect() },
    { key: "d", does: "Disconnect", run: () => page?.view?.live.disconnect() },
    { key: "r", does: "Resume after the last id", run: () => void page?.view?.live.resume() },
    { key: "p", does: "Pause the list, or go on", run: () => page?.view?.live.togglePause() },
    { key: "x", does: "Clear what has come", run: () => page?.view?.live.clear() },
    { key: "j", does: "Next stream", run: () => page?.move(1) },
    { key: "k", does: "Stream before", run: () => page?.move(-1) },
    { key: "/", does: "Filter the list of streams", run: () => page?.focusFilter() },
  ],
);
