/**
 * Lays JSON text out for reading. Knows its tokens; keeps each as it came, and shows nothing.
 *
 * Works on the text and not on the parsed value: that would lose the digits of large numbers and
 * members that come twice.
 */

/**
 * @typedef {object} Part
 * @property {"key" | "string" | "literal" | "plain"} kind
 * @property {string} text
 */

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const ONE_LINE_CHARS = 64;
// Deeper than anybody reads, and a bound on the spaces that a hostile payload can ask for.
const MAX_INDENT = 16;

/**
 * Return `text` in parts: on one line where it is short, else indented; plain where it is no JSON.
 *
 * @param {string} text
 * @returns {Part[]}
 */
export function layOutJson(text) {
  if (!isJson(text)) return [{ kind: "plain", text }];
  const tokens = text.match(TOKEN) ?? [];
  return parts(tokens, tokens.join(" ").length <= ONE_LINE_CHARS);
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
 * @param {string[]} tokens
 * @param {boolean} oneLine
 */
function parts(tokens, oneLine) {
  /** @type {Part[]} */
  const out = [];
  let depth = 0;
  const lineBreak = () => (oneLine ? " " : `\n${"  ".repeat(Math.min(depth, MAX_INDENT))}`);
  tokens.forEach((token, at) => {
    const next = tokens[at + 1];
    const empty = (token === "{" && next === "}") || (token === "[" && next === "]");
    if (token === "{" || token === "[") {
      depth += 1;
      out.push({ kind: "plain", text: empty ? token : token + lineBreak() });
    } else if (token === "}" || token === "]") {
      depth -= 1;
      const before = tokens[at - 1];
      out.push({ kind: "plain", text: before === "{" || before === "[" ? token : lineBreak() + token });
    } else if (token === ",") {
      out.push({ kind: "plain", text: `,${lineBreak()}` });
    } else if (token === ":") {
      out.push({ kind: "plain", text: ": " });
    } else {
      out.push({ kind: kindOf(token, next), text: token });
    }
  });
  return out;
}

/**
 * @param {string} token
 * @param {string | undefined} next
 * @returns {Part["kind"]}
 */
function kindOf(token, next) {
  if (next === ":") return "key";
  return token.startsWith('"') ? "string" : "literal";
}
