/**
 * Tabs that work with the keyboard, as the ARIA practices describe them. Knows nothing of what is
 * on them.
 */

/**
 * Let each tab of `list` show its own of `pages`, in the same order, and hide the others.
 *
 * @param {HTMLElement} list
 * @param {HTMLElement[]} pages
 * @param {string} prefix Of the ids that tie tabs and pages together.
 */
export function tieTabs(list, pages, prefix) {
  const tabs = /** @type {HTMLElement[]} */ ([...list.children]);

  /** @param {number} chosen */
  const show = (chosen) => {
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === chosen));
      tab.tabIndex = at === chosen ? 0 : -1;
      pages[at].hidden = at !== chosen;
    });
  };

  tabs.forEach((tab, at) => {
    tab.id = `${prefix}-tab-${at}`;
    pages[at].id = `${prefix}-page-${at}`;
    tab.setAttribute("aria-controls", pages[at].id);
    pages[at].setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", () => show(at));
    tab.addEventListener("keydown", (press) => {
      const target = targetOf(press.key, at, tabs.length);
      if (target === undefined) return;
      press.preventDefault();
      show(target);
      tabs[target].focus();
    });
  });
  show(0);
}

/**
 * @param {string} key
 * @param {number} at
 * @param {number} count
 */
function targetOf(key, at, count) {
  switch (key) {
    case "ArrowRight":
      return (at + 1) % count;
    case "ArrowLeft":
      return (at + count - 1) % count;
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return undefined;
  }
}
