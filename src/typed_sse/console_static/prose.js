/**
 * Shows a description: paragraphs, lists, code, emphasis. Of Markdown, that is what docstrings
 * have; the rest stays as it was written, and nothing becomes markup but by the elements made here.
 */

import { textElement } from "./text.js";

const SPAN = /`([^`]+)`|\*\*([^*]+)\*\*/g;

/**
 * Return the elements of a text in Markdown.
 *
 * @param {string} text
 * @returns {HTMLElement[]}
 */
export function prose(text) {
  return blocksOf(text).flatMap((block) => {
    if (block.startsWith("```")) {
      const lines = block.split("\n").slice(1);
      return [textElement("pre", "code", lines.join("\n").replace(/\n?```\s*$/, ""))];
    }
    if (block.startsWith("|")) return [textElement("pre", "code", block)];
    if (/^[-*] /.test(block)) {
      const list = document.createElement("ul");
      for (const item of block.split(/\n(?=[-*] )/)) {
        list.append(withSpans(document.createElement("li"), item.slice(2)));
      }
      return [list];
    }
    return [withSpans(document.createElement("p"), block.replace(/^#+ /, ""))];
  });
}

/**
 * Cut a text at its blank lines, but for those inside a fence.
 *
 * @param {string} text
 * @returns {string[]}
 */
function blocksOf(text) {
  /** @type {string[]} */
  const blocks = [];
  /** @type {string[]} */
  let block = [];
  let fenced = false;
  for (const line of text.split("\n")) {
    const fence = line.startsWith("```");
    if (fence && !fenced && block.length > 0) block = begin(blocks, block);
    if (fence) fenced = !fenced;
    if (line.trim() === "" && !fenced) block = begin(blocks, block);
    else block.push(line);
    if (fence && !fenced) block = begin(blocks, block);
  }
  begin(blocks, block);
  return blocks;
}

/**
 * @param {string[]} blocks
 * @param {string[]} block
 * @returns {string[]}
 */
function begin(blocks, block) {
  if (block.length > 0) blocks.push(block.join("\n"));
  return [];
}

/**
 * Put a text with its code and emphasis into an element, and return that.
 *
 * @param {HTMLElement} element
 * @param {string} text
 */
export function withSpans(element, text) {
  let at = 0;
  for (const match of text.matchAll(SPAN)) {
    const [whole, code, strong] = match;
    element.append(text.slice(at, match.index));
    element.append(textElement(code === undefined ? "strong" : "code", "", code ?? strong));
    at = match.index + whole.length;
  }
  element.append(text.slice(at));
  return element;
}
