/**
 * Tabs that work with the keyboard, as the ARIA practices describe them. Knows nothing of what is
 * on them.
 */

/**
 * @typedef {object} Tab
 * @property {HTMLElement} handle
 * @property {HTMLElement} page
 */

/**
 * Show the page of one tab at a time, the first one's to begin with.
 *
 * @param {readonly Tab[]} tabs In the order of the page.
 * @param {string} prefix Of the ids that tie handles and pages together.
 */
export function tieTabs(tabs, prefix) {
  /** @param {Tab | undefined} chosen */
  const show = (chosen) => {
    for (const tab of tabs) {
      tab.handle.setAttribute("aria-selected", String(tab === chosen));
      tab.handle.tabIndex = tab === chosen ? 0 : -1;
      tab.page.hidden = tab !== chosen;
    }
  };

  for (const [at, tab] of tabs.entries()) {
    const { handle, page } = tab;
    handle.id = `${prefix}-tab-${at}`;
    page.id = `${prefix}-page-${at}`;
    handle.setAttribute("aria-controls", page.id);
    page.setAttribute("aria-labelledby", handle.id);
    handle.addEventListener("click", () => show(tab));
    handle.addEventListener("keydown", (press) => {
      const target = tabs[targetOf(press.key, at, tabs.length)];
      if (target === undefined) return;
      press.preventDefault();
      show(target);
      target.handle.focus();
    });
  }
  show(tabs[0]);
}

/**
 * @param {string} key
 * @param {number} at
 * @param {number} count
 * @returns {number} -1 where the key means nothing to tabs.
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
      return -1;
  }
}
