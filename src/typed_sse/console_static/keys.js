/**
 * Shortcuts of single keys, and the dialog that lists them and can turn them off. Knows no stream.
 */

import { part } from "./template.js";
import { textElement } from "./text.js";

/**
 * @typedef {object} Shortcut
 * @property {string} key
 * @property {string} does
 * @property {() => void} run
 */

/**
 * Listen for shortcuts, and list them in the page's dialog.
 *
 * A key that is pressed in a field is text, and one with Ctrl, Alt or Meta is the browser's.
 *
 * @param {HTMLDialogElement} dialog
 * @param {HTMLButtonElement} opener
 * @param {readonly Shortcut[]} shortcuts
 */
export function listenForKeys(dialog, opener, shortcuts) {
  const list = part(dialog, "keys", HTMLElement);
  for (const { key, does } of [...shortcuts, { key: "?", does: "Show this list" }]) {
    const term = document.createElement("dt");
    term.append(textElement("kbd", "", key));
    list.append(term, textElement("dd", "", does));
  }
  // Who dictates, or whose hand is not steady, does not want single keys to do anything.
  const on = part(dialog, "keys-on", HTMLInputElement);
  opener.addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (press) => {
    if (press.ctrlKey || press.altKey || press.metaKey || dialog.open || !on.checked) return;
    if (isField(press.target)) return;
    const run =
      press.key === "?"
        ? () => dialog.showModal()
        : shortcuts.find(({ key }) => key === press.key)?.run;
    if (run === undefined) return;
    press.preventDefault();
    run();
  });
}

/** @param {EventTarget | null} target */
function isField(target) {
  return target instanceof Element && target.closest("input, select, textarea") !== null;
}
