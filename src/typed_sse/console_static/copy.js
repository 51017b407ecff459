/**
 * Puts a text into the clipboard. Knows nothing of what it is.
 */

const COPIED_MS = 1500;

/**
 * Copy `text`, or select it where the browser keeps the clipboard to itself.
 *
 * @param {string} text
 * @param {HTMLElement} shown Shows it, or what may be seen of it.
 * @param {HTMLButtonElement} button Says for a moment what was done.
 */
export async function copy(text, shown, button) {
  button.dataset.label ??= button.textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Outside a secure context there is no clipboard at all, and inside one it may be refused.
    shown.textContent = text;
    getSelection()?.selectAllChildren(shown);
    button.textContent = "Selected";
  }
  setTimeout(() => {
    button.textContent = button.dataset.label ?? "";
  }, COPIED_MS);
}
