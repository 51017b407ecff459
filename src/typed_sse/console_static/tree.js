/**
 * Shows a schema as a tree: names, types, what is required, and what is said of each. Knows the
 * page and how schemas nest; checks nothing.
 */

import { withSpans } from "./prose.js";
import { limitsOf, nameOf } from "./schema.js";
import { textElement } from "./text.js";

/** @typedef {import("./schema.js").Schemas} Schemas */

const MAX_DEPTH = 12;
const OPEN_DEPTH = 2;

/**
 * Return the tree of a payload: its own line, and below it what is inside.
 *
 * @param {unknown} schema
 * @param {Schemas} schemas
 * @returns {HTMLElement}
 */
export function schemaTree(schema, schemas) {
  const own = schemas.resolve(schema);
  const tree = document.createElement("div");
  tree.className = "tree";
  const line = textElement("p", "line");
  line.append(textElement("code", "type", schemas.typeText(schema)), ...remarks(own, true));
  tree.append(line, ...description(own));
  tree.append(...inside(schema, schemas, new Set(), 0));
  return tree;
}

/**
 * Return what is inside a value, nested lists of members and options.
 *
 * @param {unknown} schema
 * @param {Schemas} schemas
 * @param {ReadonlySet<string | undefined>} above The components that this one is inside of.
 * @param {number} depth
 * @returns {HTMLElement[]}
 */
function inside(schema, schemas, above, depth) {
  const component = nameOf(schema);
  if (depth > MAX_DEPTH || above.has(component)) return [];
  const within = component === undefined ? above : new Set([...above, component]);
  const own = schemas.resolve(schema);
  const members = Object.entries(own.properties ?? {});
  const further = partsOf(own, schemas);
  if (members.length === 0 && further.length === 0) return [];
  // The type of a list, or of what may be null, has been told; on to what it is of.
  if (members.length === 0 && further.length === 1) {
    return inside(further[0]?.[1], schemas, within, depth);
  }
  const list = document.createElement("ul");
  for (const [name, member] of members) {
    const required = (own.required ?? []).includes(name);
    list.append(item(name, member, required, schemas, within, depth));
  }
  for (const [label, part] of further) {
    list.append(item(label, part, undefined, schemas, within, depth));
  }
  return [list];
}

/**
 * Return what a value has inside beside its named members: items, options, values of other names.
 *
 * @param {import("./schema.js").Schema} own
 * @param {Schemas} schemas
 * @returns {[string, unknown][]}
 */
function partsOf(own, schemas) {
  /** @type {[string, unknown][]} */
  const parts = [];
  for (const option of [...(own.oneOf ?? []), ...(own.anyOf ?? []), ...(own.allOf ?? [])]) {
    parts.push(["", option]);
  }
  for (const [at, part] of (own.prefixItems ?? []).entries()) parts.push([`${at}`, part]);
  if (own.items) parts.push(["each", own.items]);
  if (typeof own.additionalProperties === "object") {
    parts.push(["others", own.additionalProperties]);
  }
  // What its type says already needs no line of its own.
  return parts.filter(([, part]) => {
    const { properties, oneOf, anyOf, items, description } = schemas.resolve(part);
    return properties ?? oneOf ?? anyOf ?? items ?? description;
  });
}

/**
 * @param {string} name
 * @param {unknown} schema
 * @param {boolean | undefined} required `undefined` for what is no member of an object.
 * @param {Schemas} schemas
 * @param {ReadonlySet<string | undefined>} above
 * @param {number} depth
 */
function item(name, schema, required, schemas, above, depth) {
  const own = schemas.resolve(schema);
  const again = [schema, ...partsOf(own, schemas).map(([, part]) => part)].some((part) =>
    above.has(nameOf(part)),
  );
  const line = document.createDocumentFragment();
  if (name !== "") {
    const label = textElement("code", required === undefined ? "place" : "member", name);
    line.append(label, " ");
  }
  line.append(textElement("code", "type", schemas.typeText(schema)), ...remarks(own, required));
  if (again) line.append(" ", textElement("span", "note", "as above"));
  const entry = document.createElement("li");
  const within = inside(schema, schemas, above, depth + 1);
  if (within.length === 0) {
    const plain = textElement("p", "line");
    plain.append(line);
    entry.append(plain, ...description(own));
  } else {
    const details = document.createElement("details");
    details.open = depth < OPEN_DEPTH;
    const summary = textElement("summary", "line");
    summary.append(line);
    details.append(summary, ...description(own), ...within);
    entry.append(details);
  }
  return entry;
}

/**
 * @param {import("./schema.js").Schema} own
 * @param {boolean | undefined} required
 * @returns {(string | HTMLElement)[]}
 */
function remarks(own, required) {
  const said = [
    ...(required === false ? [textElement("span", "note", "optional")] : []),
    ...(own.deprecated ? [textElement("span", "warning", "deprecated")] : []),
    ...limitsOf(own).map((limit) => textElement("span", "note", limit)),
  ];
  return said.flatMap((remark) => [" ", remark]);
}

/** @param {import("./schema.js").Schema} own */
function description(own) {
  const text = typeof own.description === "string" ? own.description.trim() : "";
  return text === "" ? [] : [withSpans(textElement("p", "said"), text)];
}
