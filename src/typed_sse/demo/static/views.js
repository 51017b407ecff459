/**
 * What a panel shows of its events beside the table: a job's progress, a chat's answer.
 *
 * Knows the events of those two streams by name and shape, and skips whatever differs from them.
 */

import { clone, part } from "./docs/events/template.js";
import { BoundedText } from "./docs/events/text.js";

/**
 * @typedef {object} View
 * @property {HTMLElement} root
 * @property {() => void} clear
 * @property {(name: string, data: unknown) => void} show
 */

/** @returns {View} */
function progressView() {
  const root = clone("progress");
  const bar = part(root, "bar", HTMLProgressElement);
  const doing = part(root, "doing", HTMLElement);
  return {
    root,
    clear() {
      bar.value = 0;
      doing.textContent = "not started";
    },
    show(name, data) {
      if (name === "progress" && has(data, { step: "number", of: "number", doing: "string" })) {
        bar.max = data.of;
        bar.value = data.step;
        doing.textContent = `${data.step} of ${data.of}: ${data.doing}`;
      } else if (name === "finished" && has(data, { files: "number", seconds: "number" })) {
        doing.textContent = `finished: ${data.files} files in ${data.seconds} s`;
      }
    },
  };
}

/** @returns {View} */
function answerView() {
  const root = clone("answer");
  const text = new BoundedText(part(root, "text", HTMLElement));
  return {
    root,
    clear() {
      text.clear();
    },
    show(name, data) {
      if (name === "token" && has(data, { text: "string" })) text.append(data.text);
    },
  };
}

/** @type {Record<NonNullable<import("./catalog.js").Stream["view"]>, () => View>} */
export const VIEWS = { progress: progressView, answer: answerView };

/**
 * @typedef {{ number: number, string: string }} TypeOf
 */

/**
 * @template {Record<string, keyof TypeOf>} S
 * @param {unknown} data
 * @param {S} shape
 * @returns {data is { [K in keyof S]: TypeOf[S[K]] }}
 */
function has(data, shape) {
  if (typeof data !== "object" || data === null) return false;
  const members = /** @type {Record<string, unknown>} */ (data);
  return Object.entries(shape).every(([name, type]) => typeof members[name] === type);
}
