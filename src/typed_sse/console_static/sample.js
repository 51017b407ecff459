/**
 * Makes a value that a schema takes, for a form to begin with. For people: formats and patterns are
 * not followed.
 */

const MAX_DEPTH = 8;
// A list may be empty, and one of what is inside itself has to be somewhere.
const MAX_LIST_DEPTH = 4;

/** @type {Record<string, string>} */
const STRINGS = {
  "date-time": "2026-01-31T12:00:00Z",
  date: "2026-01-31",
  time: "12:00:00Z",
  uuid: "123e4567-e89b-12d3-a456-426614174000",
  uri: "https://example.com/",
  email: "name@example.com",
};

/**
 * Return a value from the schema's own examples and defaults, where it has any.
 *
 * @param {unknown} schema
 * @param {import("./schema.js").Schemas} schemas
 * @param {number} [depth]
 * @returns {unknown}
 */
export function sampleOf(schema, schemas, depth = 0) {
  if (depth > MAX_DEPTH) return null;
  const own = schemas.resolve(schema);
  if (Array.isArray(own.examples) && own.examples.length > 0) return own.examples[0];
  for (const keyword of ["example", "const", "default"]) {
    if (keyword in own) return own[keyword];
  }
  if (Array.isArray(own.enum)) return own.enum[0];
  const options = own.oneOf ?? own.anyOf ?? own.allOf;
  if (Array.isArray(options)) return sampleOf(options[0], schemas, depth + 1);
  switch ([own.type].flat()[0]) {
    case "object":
      return Object.fromEntries(
        Object.entries(own.properties ?? {}).map(([name, member]) => [
          name,
          sampleOf(member, schemas, depth + 1),
        ]),
      );
    case "array": {
      if (depth > MAX_LIST_DEPTH) return [];
      const items = own.prefixItems ?? (own.items === undefined ? [] : [own.items]);
      return items.map((/** @type {unknown} */ item) => sampleOf(item, schemas, depth + 1));
    }
    case "string":
      return STRINGS[own.format] ?? "text".padEnd(own.minLength ?? 0, ".").slice(0, own.maxLength);
    case "integer":
    case "number":
      return own.minimum ?? (own.exclusiveMinimum === undefined ? 0 : own.exclusiveMinimum + 1);
    case "boolean":
      return true;
    default:
      return null;
  }
}
