/**
 * Reads JSON schemas: follows references, and says in words what a schema asks for.
 *
 * Knows the keywords that Pydantic writes; checks no value and shows nothing.
 */

/**
 * @typedef {Record<string, any>} Schema A JSON schema that is an object.
 */

// A chain of references that is longer goes in a circle.
const MAX_REFERENCES = 32;
const MAX_NAMED_VALUES = 12;
const MAX_VALUE_CHARS = 40;

/** The schemas of one document. */
export class Schemas {
  #document;
  // A stream asks for the same ones again and again.
  /** @type {WeakMap<Record<string, any>, Schema>} */
  #resolved = new WeakMap();

  /** @param {unknown} document */
  constructor(document) {
    this.#document = document;
  }

  /**
   * Return a schema without a reference at its top; what stands beside a reference wins.
   *
   * @param {unknown} schema Whatever the document has there.
   * @returns {Schema} Empty where nothing can be found: it asks for nothing.
   */
  resolve(schema) {
    if (schema === false) return { not: {} };
    const given = objectOrEmpty(schema);
    let found = this.#resolved.get(given);
    if (found === undefined) {
      found = this.#withoutReference(given);
      this.#resolved.set(given, found);
    }
    return found;
  }

  /** @param {Schema} schema */
  #withoutReference(schema) {
    let found = schema;
    for (let left = MAX_REFERENCES; typeof found.$ref === "string" && left > 0; left -= 1) {
      const { $ref, ...beside } = found;
      found = { ...objectOrEmpty(this.#at($ref)), ...beside };
    }
    return found;
  }

  /** @param {string} reference */
  #at(reference) {
    if (!reference.startsWith("#/")) return undefined;
    let at = /** @type {any} */ (this.#document);
    for (const step of reference.slice(2).split("/")) {
      const name = decoded(step).replaceAll("~1", "/").replaceAll("~0", "~");
      at = typeof at === "object" && at !== null && Object.hasOwn(at, name) ? at[name] : undefined;
    }
    return at;
  }

  /**
   * Say in a few words what type a value has.
   *
   * @param {unknown} schema
   * @returns {string}
   */
  typeText(schema) {
    const { title, ...own } = this.resolve(schema);
    const name = nameOf(schema);
    const options = own.oneOf ?? own.anyOf;
    if (Array.isArray(options)) return this.#joined(options);
    if ("const" in own) return literal(own.const);
    if (Array.isArray(own.enum)) return named(own.enum);
    if (own.allOf?.length === 1) return this.typeText(own.allOf[0]);
    if (Array.isArray(own.type)) {
      return this.#joined(own.type.map((/** @type {string} */ type) => ({ ...own, type })));
    }
    if (own.type === "array") {
      if (Array.isArray(own.prefixItems)) {
        const items = own.prefixItems.map((/** @type {unknown} */ item) => this.typeText(item));
        return `(${items.join(", ")})`;
      }
      return `list of ${own.items === undefined ? "anything" : this.#within(own.items)}`;
    }
    if (own.type === "object" || own.properties) {
      // A field has a title of its own, which says no more than its name.
      const known = name ?? (own.properties && title);
      if (known) return String(known);
      const values = objectOrEmpty(own.additionalProperties);
      return Object.keys(values).length > 0 ? `object of ${this.#within(values)}` : "object";
    }
    if (typeof own.type === "string") return own.format ? `${own.type} (${own.format})` : own.type;
    return "anything";
  }

  /** @param {unknown} schema */
  #within(schema) {
    const text = this.typeText(schema);
    return text.includes(" | ") ? `(${text})` : text;
  }

  /** @param {unknown[]} options */
  #joined(options) {
    return [...new Set(options.map((option) => this.typeText(option)))].join(" | ");
  }
}

/**
 * Say what else a value has to keep to, and what it is when it is left out.
 *
 * @param {Schema} schema Without a reference at its top.
 * @returns {string[]}
 */
export function limitsOf(schema) {
  const unlessNull = (schema.anyOf ?? []).filter((/** @type {any} */ one) => one?.type !== "null");
  // An optional field has its limits beside the null.
  const own = unlessNull.length === 1 ? { ...unlessNull[0], ...schema } : schema;
  const said = [
    range(own.minimum ?? own.exclusiveMinimum, own.maximum ?? own.exclusiveMaximum, ""),
    range(own.minLength, own.maxLength, " characters"),
    range(own.minItems, own.maxItems, " items"),
    own.multipleOf === undefined ? "" : `a multiple of ${own.multipleOf}`,
    own.uniqueItems ? "no item twice" : "",
    own.pattern === undefined ? "" : `matches ${own.pattern}`,
    "default" in own ? `default ${literal(own.default)}` : "",
  ];
  return said.filter((text) => text !== "");
}

/**
 * @param {unknown} low
 * @param {unknown} high
 * @param {string} unit
 */
function range(low, high, unit) {
  if (low === undefined && high === undefined) return "";
  if (low === undefined) return `at most ${high}${unit}`;
  return high === undefined ? `at least ${low}${unit}` : `${low} to ${high}${unit}`;
}

/**
 * @param {unknown} value
 * @returns {string}
 */
export function literal(value) {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > MAX_VALUE_CHARS ? `${text.slice(0, MAX_VALUE_CHARS - 1)}…` : text;
}

/** @param {unknown[]} values */
function named(values) {
  const shown = values.slice(0, MAX_NAMED_VALUES).map(literal);
  return [...shown, ...(values.length > shown.length ? ["…"] : [])].join(" | ");
}

/**
 * Return the name of the component that a schema refers to.
 *
 * @param {unknown} schema
 * @returns {string | undefined}
 */
export function nameOf(schema) {
  const reference = objectOrEmpty(schema).$ref;
  return typeof reference === "string" ? decoded(reference.split("/").at(-1) ?? "") : undefined;
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
 * @param {unknown} value
 * @returns {Record<string, any>}
 */
export function objectOrEmpty(value) {
  return isObject(value) ? value : {};
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
