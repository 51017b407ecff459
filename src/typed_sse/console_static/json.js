/**
 * Lays JSON text out for reading. Knows its tokens and keeps each as it came; shows nothing.
 *
 * Works on the text and not on the parsed value: that would lose the digits of large numbers and
 * members that come twice.
 */

/**
 * @typedef {object} Part
 * @property {"key" | "string" | "literal" | "plain"} kind
 * @property {string} text
 * @property {string} [path] Where the value is that it belongs to, as a JSON pointer.
 *
 * @typedef {object} Leaf
 * @property {string} token
 * @property {number} chars
 *
 * @typedef {object} Branch
 * @property {string} open
 * @property {string} close
 * @property {{ key: string | undefined, value: Leaf | Branch }[]} items
 * @property {number} chars What it takes on one line.
 */

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const ONE_LINE_CHARS = 64;
// Deeper than anybody reads, and a bound on the spaces that a hostile payload can ask for.
const MAX_INDENT = 16;

/**
 * Return `text` in parts: what is short on one line, what is not indented, no JSON as it is.
 *
 * @param {string} text
 * @returns {Part[]}
 */
export function layOutJson(text) {
  if (!isJson(text)) return [{ kind: "plain", text }];
  /** @type {Part[]} */
  const parts = [];
  write(read((text.match(TOKEN) ?? []).values()), "", 0, parts);
  return parts;
}

/** @param {string} text */
function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Read one value of valid JSON.
 *
 * @param {Iterator<string>} tokens
 * @returns {Leaf | Branch}
 */
function read(tokens) {
  return readFrom(tokens.next().value, tokens);
}

/**
 * @param {string} token The value's first.
 * @param {Iterator<string>} tokens Those behind it.
 * @returns {Leaf | Branch}
 */
function readFrom(token, tokens) {
  if (token !== "{" && token !== "[") return { token, chars: token.length };
  const close = token === "{" ? "}" : "]";
  /** @type {Branch} */
  const branch = { open: token, close, items: [], chars: 2 };
  for (let next = tokens.next().value; next !== close; next = tokens.next().value) {
    if (next === ",") continue;
    const key = token === "{" ? next : undefined;
    if (key !== undefined) tokens.next();
    const value = key === undefined ? readFrom(next, tokens) : read(tokens);
    branch.items.push({ key, value });
    branch.chars += (key === undefined ? 0 : key.length + 2) + value.chars + 2;
  }
  return branch;
}

/**
 * @param {Leaf | Branch} value
 * @param {string} path
 * @param {number} depth
 * @param {Part[]} parts
 */
function write(value, path, depth, parts) {
  if ("token" in value) {
    const kind = value.token.startsWith('"') ? "string" : "literal";
    parts.push({ kind, text: value.token, path });
    return;
  }
  if (value.items.length === 0) {
    parts.push({ kind: "plain", text: value.open + value.close, path });
    return;
  }
  const oneLine = value.chars <= ONE_LINE_CHARS;
  const inner = oneLine ? " " : lineBreak(depth + 1);
  let before = value.open + inner;
  for (const [at, { key, value: item }] of value.items.entries()) {
    const inside = `${path}/${key === undefined ? at : pointerStep(JSON.parse(key))}`;
    parts.push({ kind: "plain", text: before });
    if (key !== undefined) {
      parts.push({ kind: "key", text: key, path: inside }, { kind: "plain", text: ": " });
    }
    write(item, inside, depth + 1, parts);
    before = `,${inner}`;
  }
  parts.push({ kind: "plain", text: (oneLine ? " " : lineBreak(depth)) + value.close });
}

/**
 * Return a member's name as a JSON pointer has it.
 *
 * Source: RFC 6901, section 3.
 *
 * @param {string} name
 */
export function pointerStep(name) {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

/** @param {number} depth */
function lineBreak(depth) {
  return `\n${"  ".repeat(Math.min(depth, MAX_INDENT))}`;
}
