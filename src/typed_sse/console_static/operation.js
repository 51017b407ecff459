/**
 * One stream on the page: what the document says of it, its form, and what comes of it.
 *
 * Ties the others together; knows itself only where things are.
 */

import { copy } from "./copy.js";
import { curlCommand } from "./curl.js";
import { Form } from "./form.js";
import { Live } from "./live.js";
import { prose } from "./prose.js";
import { requestOf } from "./request.js";
import { Tags } from "./tags.js";
import { clone, part } from "./template.js";
import { textElement } from "./text.js";
import { schemaTree } from "./tree.js";

/**
 * @typedef {import("./document.js").Operation} Operation
 * @typedef {import("./schema.js").Schemas} Schemas
 */

const MASK = "••••••";

/** The view of one operation. */
export class OperationView {
  /** The element to put on the page. */
  root = clone("operation");
  live;

  #operation;
  #form;
  #rootUrl;

  /**
   * @param {Operation} operation
   * @param {object} page
   * @param {Schemas} page.schemas
   * @param {string} page.rootUrl Where the application's `/` is.
   * @param {string} page.prefix Of the ids of its elements.
   * @param {(state: import("./live.js").State) => void} page.onState
   */
  constructor(operation, { schemas, rootUrl, prefix, onState }) {
    this.#operation = operation;
    this.#rootUrl = rootUrl;
    this.#describe(prefix);
    this.#form = new Form(part(this.root, "fields", HTMLElement), operation, schemas, prefix);
    const tags = new Tags(operation.events);
    this.#showContract(schemas, tags);
    this.live = new Live(this.root, operation, {
      schemas,
      tags,
      prefix,
      ask: (lastEventId) => this.#request(lastEventId),
      onState,
    });
    this.#listen();
    this.#showCurl();
  }

  /** Bring the view up to date; to be called when it has come to be seen. */
  shown() {
    this.#form.refresh();
    this.#showCurl();
    this.live.show();
  }

  /** Open the stream with what the form holds. */
  connect() {
    return this.live.connect();
  }

  /** @param {string} lastEventId */
  #request(lastEventId) {
    if (!this.#form.check()) return undefined;
    return requestOf(this.#operation, this.#form.values, this.#rootUrl, lastEventId);
  }

  #showCurl() {
    const { values } = this.#form;
    const credentials = values.credentials.map((one) => ({ ...one, secret: MASK }));
    const request = requestOf(this.#operation, { ...values, credentials }, this.#rootUrl);
    part(this.root, "curl", HTMLElement).textContent = curlCommand(request);
  }

  /** @param {string} prefix */
  #describe(prefix) {
    const { method, path, summary, description, deprecated, key } = this.#operation;
    this.root.dataset.key = key;
    part(this.root, "method", HTMLElement).textContent = method;
    part(this.root, "path", HTMLElement).textContent = path;
    part(this.root, "summary", HTMLElement).textContent = summary;
    part(this.root, "deprecated", HTMLElement).hidden = !deprecated;
    part(this.root, "about", HTMLElement).replaceChildren(...prose(description));
    const title = part(this.root, "title", HTMLElement);
    title.id = `${prefix}-title`;
    this.root.setAttribute("aria-labelledby", title.id);
    for (const heading of this.root.querySelectorAll("section > h3")) {
      heading.id = `${prefix}-${heading.textContent?.toLowerCase()}`;
      heading.parentElement?.setAttribute("aria-labelledby", heading.id);
    }
  }

  /**
   * @param {Schemas} schemas
   * @param {Tags} tags
   */
  #showContract(schemas, tags) {
    const contract = part(this.root, "contract", HTMLElement);
    const { events } = this.#operation;
    if (events === undefined) {
      contract.append(textElement("p", "note", "It declares no events; any may come."));
    }
    for (const event of events ?? []) {
      const entry = textElement("div", "event");
      const heading = document.createElement("h4");
      heading.append(tags.tag(event.name));
      if (event.terminal) heading.append(" ", textElement("span", "note", "ends the stream"));
      if (event.deprecated) heading.append(" ", textElement("span", "warning", "deprecated"));
      entry.append(heading, ...prose(event.description), schemaTree(event.schema, schemas));
      contract.append(entry);
    }
  }

  #listen() {
    const form = part(this.root, "form", HTMLFormElement);
    form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      void this.connect();
    });
    form.addEventListener("input", () => this.#showCurl());
    // In a text of several lines, Enter alone begins a new one.
    form.addEventListener("keydown", (press) => {
      if (press.key === "Enter" && (press.ctrlKey || press.metaKey)) form.requestSubmit();
    });
    const button = part(this.root, "copy", HTMLButtonElement);
    button.addEventListener("click", () => {
      const command = curlCommand(requestOf(this.#operation, this.#form.values, this.#rootUrl));
      void copy(command, part(this.root, "curl", HTMLElement), button);
    });
  }
}
