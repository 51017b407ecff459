/**
 * The form of an operation: a field for each parameter, the body, and the credentials. Knows the
 * page and which control is for which schema; sends nothing.
 */

import { misfits } from "./check.js";
import { isJsonType, isLastEventId } from "./document.js";
import { sampleOf } from "./sample.js";
import { limitsOf } from "./schema.js";
import { clone, part } from "./template.js";
import { textElement } from "./text.js";

/**
 * @typedef {import("./document.js").Operation} Operation
 * @typedef {import("./schema.js").Schemas} Schemas
 *
 * @typedef {object} Field
 * @property {HTMLElement} root
 * @property {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} control
 * @property {HTMLElement} complaint
 * @property {boolean} required
 */

const BODYLESS = new Set(["GET", "HEAD"]);
const MAX_BODY_ROWS = 16;

/**
 * What was given for each security scheme; for all streams of the page, and gone with it.
 *
 * @type {Map<string, string>}
 */
const secrets = new Map();

/** The fields of one operation. */
export class Form {
  #operation;
  #schemas;
  #prefix;
  /** @type {{ field: Field, parameter: import("./document.js").Parameter }[]} */
  #parameters = [];
  /** @type {{ field: Field, credential: import("./document.js").Credential }[]} */
  #credentials = [];
  /** @type {Field | undefined} */
  #body = undefined;

  /**
   * @param {HTMLElement} root Where the fields go.
   * @param {Operation} operation
   * @param {Schemas} schemas
   * @param {string} prefix Of the ids that tie labels and fields together.
   */
  constructor(root, operation, schemas, prefix) {
    this.#operation = operation;
    this.#schemas = schemas;
    this.#prefix = prefix;
    for (const credential of operation.credentials) this.#addCredential(credential);
    for (const parameter of operation.parameters) this.#addParameter(parameter);
    if (operation.body) this.#addBody(operation.body);
    const fields = [...this.#credentials, ...this.#parameters].map(({ field }) => field.root);
    root.replaceChildren(...fields, ...(this.#body ? [this.#body.root] : []));
    if (root.childElementCount === 0) {
      root.append(textElement("p", "note", "It takes no parameters."));
    }
    root.addEventListener("input", ({ target }) => this.#noteInput(target));
  }

  /**
   * Say at each field what is missing or cannot be sent, and go to the first of them.
   *
   * @returns {boolean} Whether all can be sent.
   */
  check() {
    const wrong = this.#fields().filter((field) => !this.#checkField(field));
    wrong[0]?.control.focus();
    return wrong.length === 0;
  }

  /** @returns {import("./request.js").Values} */
  get values() {
    return {
      parameters: this.#parameters
        .map(({ field, parameter }) => ({
          parameter,
          values: this.#valuesOf(field.control.value, parameter),
        }))
        .filter(({ values }) => values.length > 0),
      credentials: this.#credentials
        .map(({ credential }) => ({ credential, secret: secrets.get(credential.scheme) ?? "" }))
        .filter(({ secret }) => secret !== ""),
      body: this.#body?.control.value.trim() ? this.#body.control.value : undefined,
    };
  }

  /** Take over what was given for another stream's credentials. */
  refresh() {
    for (const { field, credential } of this.#credentials) {
      field.control.value = secrets.get(credential.scheme) ?? "";
    }
  }

  /** @returns {Field[]} */
  #fields() {
    const fields = [...this.#credentials, ...this.#parameters].map(({ field }) => field);
    return this.#body ? [...fields, this.#body] : fields;
  }

  /**
   * @param {string} text
   * @param {import("./document.js").Parameter} parameter
   * @returns {string[]}
   */
  #valuesOf(text, parameter) {
    if (text === "" || parameter.in === "cookie") return [];
    if (!this.#isList(parameter.schema)) return [text];
    return text.split("\n").filter((line) => line !== "");
  }

  /** @param {Field} field */
  #checkField(field) {
    const missing = field.required && field.control.value.trim() === "";
    // What may be wrong with a body is told already, and no reason not to send it.
    if (field === this.#body && !missing) return true;
    return complain(field, missing ? "is required" : "", "error");
  }

  /** @param {EventTarget | null} target */
  #noteInput(target) {
    const field = this.#fields().find(({ control }) => control === target);
    if (field === undefined) return;
    const credential = this.#credentials.find((one) => one.field === field)?.credential;
    if (credential) secrets.set(credential.scheme, field.control.value);
    complain(field, "", "error");
    if (field === this.#body) this.#checkBody();
  }

  #checkBody() {
    const { body } = this.#operation;
    if (this.#body === undefined || body === undefined || !isJsonType(body.mediaType)) return;
    let said = "";
    try {
      const found = misfits(JSON.parse(this.#body.control.value), body.schema, this.#schemas);
      said = found.map(({ path, message }) => `${path || "it"} ${message}`).join("; ");
    } catch {
      said = "is no JSON";
    }
    // It may be sent all the same, to see what the server says.
    complain(this.#body, said, "warning");
  }

  /** @param {import("./document.js").Parameter} parameter */
  #addParameter(parameter) {
    const own = this.#schemas.resolve(parameter.schema);
    const control = this.#control(parameter);
    const first = parameter.example ?? own.examples?.[0] ?? own.example ?? constant(own);
    if (first !== undefined && !isLastEventId(parameter)) control.value = textOf(first);
    const about = [this.#schemas.typeText(parameter.schema), ...limitsOf(own)];
    if (this.#isList(parameter.schema)) about.push("one a line");
    if (parameter.in === "cookie") {
      control.disabled = true;
      about.push("the browser sends it if it has it");
    }
    const field = this.#field(control, {
      name: parameter.name,
      place: parameter.in,
      about: about.join(" · "),
      description: parameter.description,
      required: parameter.required && parameter.in !== "cookie",
      deprecated: parameter.deprecated,
    });
    this.#parameters.push({ field, parameter });
  }

  /** @param {import("./document.js").Body} body */
  #addBody(body) {
    const control = document.createElement("textarea");
    const isJson = isJsonType(body.mediaType);
    const sample = body.example ?? (isJson ? sampleOf(body.schema, this.#schemas) : "");
    control.value = isJson ? JSON.stringify(sample, undefined, 2) : textOf(sample);
    control.rows = Math.min(control.value.split("\n").length + 1, MAX_BODY_ROWS);
    control.className = "body";
    control.spellcheck = false;
    const about = [body.mediaType, this.#schemas.typeText(body.schema)];
    if (BODYLESS.has(this.#operation.method)) {
      control.value = "";
      control.disabled = true;
      about.push(`a browser sends none with ${this.#operation.method}`);
    }
    this.#body = this.#field(control, {
      name: "Body",
      place: "",
      about: about.join(" · "),
      description: "",
      required: body.required && !control.disabled,
      deprecated: false,
    });
  }

  /** @param {import("./document.js").Credential} credential */
  #addCredential(credential) {
    const control = document.createElement("input");
    control.type = "password";
    control.autocomplete = "off";
    const names = { bearer: "Bearer token", basic: "User and password" };
    const name = names[/** @type {"bearer"} */ (credential.kind)] ?? credential.name;
    const about = [credential.scheme, "kept until the page is closed"];
    if (credential.kind === "basic") about.unshift("user:password");
    if (credential.kind === "cookie") {
      control.disabled = true;
      about.splice(1, 1, "the browser sends it if it has it");
    }
    control.value = secrets.get(credential.scheme) ?? "";
    const field = this.#field(control, {
      name,
      place: credential.kind === "query" ? "query" : "header",
      about: about.join(" · "),
      description: credential.description,
      required: false,
      deprecated: false,
    });
    this.#credentials.push({ field, credential });
  }

  /** @param {import("./document.js").Parameter} parameter */
  #control(parameter) {
    const own = this.#plain(parameter.schema);
    const choices = own.type === "boolean" ? [true, false] : own.enum;
    if (Array.isArray(choices)) {
      const select = document.createElement("select");
      // Without the empty one, nobody could leave it out.
      for (const choice of ["", ...choices.map(textOf)]) {
        const option = document.createElement("option");
        option.value = choice;
        option.textContent = choice === "" ? "–" : choice;
        select.append(option);
      }
      return select;
    }
    if (this.#isList(parameter.schema)) {
      const lines = document.createElement("textarea");
      lines.rows = 2;
      return lines;
    }
    const input = document.createElement("input");
    // Not of the type `number`: what the server makes of a wrong one is worth a try.
    if (own.type === "integer") input.inputMode = "numeric";
    if (own.type === "number") input.inputMode = "decimal";
    input.spellcheck = false;
    return input;
  }

  /**
   * Return what a value is unless it is null.
   *
   * @param {unknown} schema
   */
  #plain(schema) {
    const own = this.#schemas.resolve(schema);
    const options = (own.anyOf ?? [])
      .map((/** @type {unknown} */ option) => this.#schemas.resolve(option))
      .filter((/** @type {import("./schema.js").Schema} */ option) => option.type !== "null");
    return options.length === 1 ? options[0] : own;
  }

  /** @param {unknown} schema */
  #isList(schema) {
    return this.#plain(schema).type === "array";
  }

  /**
   * @param {Field["control"]} control
   * @param {object} about
   * @param {string} about.name
   * @param {string} about.place
   * @param {string} about.about
   * @param {string} about.description
   * @param {boolean} about.required
   * @param {boolean} about.deprecated
   * @returns {Field}
   */
  #field(control, { name, place, about, description, required, deprecated }) {
    const root = clone("field");
    const id = `${this.#prefix}-${this.#parameters.length + this.#credentials.length}`;
    const complaint = part(root, "complaint", HTMLElement);
    control.id = id;
    control.name = name;
    control.setAttribute("aria-describedby", `${id}-about ${id}-complaint`);
    if (required) control.setAttribute("aria-required", "true");
    part(root, "label", HTMLLabelElement).htmlFor = id;
    part(root, "name", HTMLElement).textContent = name;
    part(root, "place", HTMLElement).textContent = place;
    part(root, "required", HTMLElement).hidden = !required;
    part(root, "deprecated", HTMLElement).hidden = !deprecated;
    const hint = part(root, "about", HTMLElement);
    hint.id = `${id}-about`;
    hint.textContent = [about, description].filter(Boolean).join("\n");
    complaint.id = `${id}-complaint`;
    part(root, "control", HTMLElement).replaceWith(control);
    return { root, control, complaint, required };
  }
}

/**
 * @param {Field} field
 * @param {string} text Empty for nothing to complain of.
 * @param {"error" | "warning"} level
 */
function complain(field, text, level) {
  field.complaint.textContent = text;
  field.complaint.className = `complaint ${level}`;
  field.control.setAttribute("aria-invalid", String(text !== ""));
  return text === "";
}

/** @param {import("./schema.js").Schema} own */
function constant(own) {
  return "const" in own ? own.const : undefined;
}

/** @param {unknown} value */
function textOf(value) {
  if (Array.isArray(value)) return value.map(textOf).join("\n");
  return typeof value === "string" ? value : JSON.stringify(value);
}
