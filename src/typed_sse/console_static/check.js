/**
 * Says where a value does not fit its JSON schema.
 *
 * Knows the keywords that Pydantic writes and passes over all others, `format` too, so that what it
 * complains of is a fault. Shows nothing.
 *
 * Source: JSON Schema 2020-12, "Validation" and the applicators of "Core".
 */

import { pointerStep } from "./json.js";
import { isObject, literal } from "./schema.js";

/**
 * @typedef {import("./schema.js").Schema} Schema
 *
 * @typedef {object} Misfit
 * @property {string} path Where in the value, as a JSON pointer; `""` is the whole.
 * @property {string} message What is wrong there, to be read after "it".
 */

const MAX_MISFITS = 20;
// Deeper than any payload that is meant, and a bound for a schema that refers to itself.
const MAX_DEPTH = 64;
// Of one value. What would take more, a recursive union without a discriminator, is passed over.
const MAX_STEPS = 50_000;

/**
 * Return where `value` does not fit `schema`; nothing where it fits. At most twenty places.
 *
 * @param {unknown} value As `JSON.parse` gives it.
 * @param {unknown} schema
 * @param {import("./schema.js").Schemas} schemas For its references.
 * @returns {Misfit[]}
 */
export function misfits(value, schema, schemas) {
  const checker = new Checker(schemas, { steps: MAX_STEPS });
  checker.check(value, schema, "", 0);
  return checker.found;
}

class Checker {
  /** @type {Misfit[]} */
  found = [];
  #schemas;
  #budget;

  /**
   * @param {import("./schema.js").Schemas} schemas
   * @param {{ steps: number }} budget Shared by all that check one value.
   */
  constructor(schemas, budget) {
    this.#schemas = schemas;
    this.#budget = budget;
  }

  /**
   * @param {unknown} value
   * @param {unknown} schema
   * @param {string} path
   * @param {number} depth
   */
  check(value, schema, path, depth) {
    this.#budget.steps -= 1;
    if (this.#budget.steps < 0 || depth > MAX_DEPTH || this.found.length >= MAX_MISFITS) return;
    const own = this.#schemas.resolve(schema);
    const say = (/** @type {string} */ message) => {
      if (this.found.length < MAX_MISFITS) this.found.push({ path, message });
    };
    if (own.not && Object.keys(own.not).length === 0) {
      say("must not be there");
      return;
    }
    if (own.type !== undefined && ![own.type].flat().some((type) => isOfType(value, type))) {
      say(`is ${kindOf(value)}, not ${withArticle([own.type].flat().join(" or "))}`);
      return;
    }
    if ("const" in own && !equal(value, own.const)) say(`is not ${literal(own.const)}`);
    if (Array.isArray(own.enum) && !own.enum.some((one) => equal(value, one))) {
      say(`is none of ${own.enum.slice(0, 12).map(literal).join(", ")}`);
    }
    for (const part of own.allOf ?? []) this.check(value, part, path, depth + 1);
    this.#checkOptions(value, own, path, depth, say);
    if (typeof value === "number") checkNumber(value, own, say);
    else if (typeof value === "string") checkString(value, own, say);
    else if (Array.isArray(value)) this.#checkArray(value, own, path, depth, say);
    else if (isObject(value)) this.#checkObject(value, own, path, depth, say);
  }

  /**
   * @param {unknown} value
   * @param {Schema} own
   * @param {string} path
   * @param {number} depth
   * @param {(message: string) => void} say
   */
  #checkOptions(value, own, path, depth, say) {
    for (const keyword of ["anyOf", "oneOf"]) {
      const options = own[keyword];
      if (!Array.isArray(options)) continue;
      // What the discriminator names is the one that counts, and to try the others too would take
      // a time that is exponential in the depth of a recursive union.
      const named = own.discriminator && meantOption(value, options, own.discriminator, this.#schemas);
      if (named !== undefined) {
        this.check(value, options[named], path, depth + 1);
        continue;
      }
      const tried = options.map((option) => {
        const checker = new Checker(this.#schemas, this.#budget);
        checker.check(value, option, path, depth + 1);
        return checker.found;
      });
      const fitting = tried.filter((found) => found.length === 0).length;
      if (fitting > 1 && keyword === "oneOf") say(`fits ${fitting} of the options, not one`);
      if (fitting > 0) continue;
      const meant = meantOption(value, options, own.discriminator, this.#schemas);
      if (meant !== undefined) this.found.push(...(tried[meant] ?? []));
      else say(`is ${kindOf(value)} that fits none of ${this.#schemas.typeText(own)}`);
    }
  }

  /**
   * @param {unknown[]} value
   * @param {Schema} own
   * @param {string} path
   * @param {number} depth
   * @param {(message: string) => void} say
   */
  #checkArray(value, own, path, depth, say) {
    if (value.length < own.minItems) say(`has ${value.length} items, not ${own.minItems} or more`);
    if (value.length > own.maxItems) say(`has ${value.length} items, not ${own.maxItems} or fewer`);
    if (own.uniqueItems) {
      // By their text first: comparing all with all would take quadratic time.
      const texts = new Set(value.map((item) => JSON.stringify(sorted(item))));
      if (texts.size < value.length) say("has an item twice");
    }
    const first = own.prefixItems ?? [];
    for (const [at, item] of value.entries()) {
      const schema = at < first.length ? first[at] : own.items;
      if (schema !== undefined) this.check(item, schema, `${path}/${at}`, depth + 1);
    }
  }

  /**
   * @param {Record<string, unknown>} value
   * @param {Schema} own
   * @param {string} path
   * @param {number} depth
   * @param {(message: string) => void} say
   */
  #checkObject(value, own, path, depth, say) {
    const members = Object.keys(value);
    const properties = own.properties ?? {};
    const patterns = Object.entries(own.patternProperties ?? {});
    if (members.length < own.minProperties) say(`has fewer than ${own.minProperties} members`);
    if (members.length > own.maxProperties) say(`has more than ${own.maxProperties} members`);
    for (const name of own.required ?? []) {
      if (!Object.hasOwn(value, name)) say(`has no ${literal(name)}`);
    }
    for (const name of members) {
      const at = `${path}/${pointerStep(name)}`;
      if (own.propertyNames) this.#checkName(name, own.propertyNames, at, depth);
      const asked = [
        ...(Object.hasOwn(properties, name) ? [properties[name]] : []),
        ...patterns.flatMap(([pattern, schema]) => (matches(name, pattern) ? [schema] : [])),
      ];
      if (asked.length > 0) {
        for (const schema of asked) this.check(value[name], schema, at, depth + 1);
      } else if (own.additionalProperties === false) {
        if (this.found.length < MAX_MISFITS) this.found.push({ path: at, message: "is not known" });
      } else if (own.additionalProperties !== undefined) {
        this.check(value[name], own.additionalProperties, at, depth + 1);
      }
    }
  }

  /**
   * @param {string} name
   * @param {unknown} schema
   * @param {string} path
   * @param {number} depth
   */
  #checkName(name, schema, path, depth) {
    const checker = new Checker(this.#schemas);
    checker.check(name, schema, path, depth + 1);
    for (const { message } of checker.found) {
      this.found.push({ path, message: `has a name that ${message}` });
    }
  }
}

/**
 * @param {number} value
 * @param {Schema} own
 * @param {(message: string) => void} say
 */
function checkNumber(value, own, say) {
  if (value < own.minimum) say(`is under ${own.minimum}`);
  if (value > own.maximum) say(`is over ${own.maximum}`);
  if (value <= own.exclusiveMinimum) say(`is not over ${own.exclusiveMinimum}`);
  if (value >= own.exclusiveMaximum) say(`is not under ${own.exclusiveMaximum}`);
  if (own.multipleOf > 0) {
    const times = value / own.multipleOf;
    // Of 0.3 and 0.1, the quotient is no whole number.
    if (Math.abs(times - Math.round(times)) > 1e-9 * Math.max(1, Math.abs(times))) {
      say(`is no multiple of ${own.multipleOf}`);
    }
  }
}

/**
 * @param {string} value
 * @param {Schema} own
 * @param {(message: string) => void} say
 */
function checkString(value, own, say) {
  if (own.minLength !== undefined || own.maxLength !== undefined) {
    // The standard counts characters, and JavaScript halves of some.
    const length = [...value].length;
    if (length < own.minLength) say(`has ${length} characters, not ${own.minLength} or more`);
    if (length > own.maxLength) say(`has ${length} characters, not ${own.maxLength} or fewer`);
  }
  if (typeof own.pattern === "string" && !matches(value, own.pattern)) {
    say(`does not match ${own.pattern}`);
  }
}

/**
 * Return which option the value's discriminator names, or the only one that is not null.
 *
 * @param {unknown} value
 * @param {unknown[]} options
 * @param {{ propertyName?: string, mapping?: Record<string, string> } | undefined} discriminator
 * @param {import("./schema.js").Schemas} schemas
 * @returns {number | undefined}
 */
function meantOption(value, options, discriminator, schemas) {
  const name = discriminator?.propertyName;
  if (name !== undefined && isObject(value)) {
    const meant = options.findIndex((option) => {
      const property = schemas.resolve(schemas.resolve(option).properties?.[name]);
      const values = "const" in property ? [property.const] : (property.enum ?? []);
      return values.includes(value[name]);
    });
    return meant < 0 ? undefined : meant;
  }
  const some = [...options.keys()].filter((at) => schemas.resolve(options[at]).type !== "null");
  return some.length === 1 && value !== null ? some[0] : undefined;
}

/**
 * @param {string} text
 * @param {string} pattern
 */
function matches(text, pattern) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return true; // Python's and Rust's patterns have what JavaScript's have not
  }
}

/**
 * @param {unknown} value
 * @param {unknown} type
 */
function isOfType(value, type) {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isObject(value);
    case "integer":
      return Number.isInteger(value);
    case "number":
    case "string":
    case "boolean":
      return typeof value === type;
    default:
      return true;
  }
}

/** @param {unknown} value */
function kindOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number") return Number.isInteger(value) ? "an integer" : "a number";
  return withArticle(typeof value);
}

/** @param {string} noun */
function withArticle(noun) {
  if (noun.startsWith("null")) return noun;
  return `${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}`;
}

/**
 * @param {unknown} one
 * @param {unknown} other
 */
function equal(one, other) {
  return one === other || JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
}

/**
 * Return the same value with the members of its objects in one order.
 *
 * @param {unknown} value
 * @returns {unknown}
 */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  const members = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return members.map(([name, member]) => ["", name, sorted(member)]);
}
