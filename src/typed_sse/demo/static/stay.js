/**
 * What a tab keeps of its stay in the room, so that it is still there when the page is loaded anew.
 *
 * The last id and the counts up to it are written together: apart, a reload between them would count
 * wrong. Knows the tab's storage, and does without where a browser gives none.
 */

const KEY = "typed-sse.room";

/**
 * @typedef {object} Stay
 * @property {string} name What the tab was called.
 * @property {string} id Of the last event that is counted.
 * @property {import("./tally.js").Counts} counts
 * @property {number} gaps
 */

/**
 * Return the stay that a tab has not ended yet.
 *
 * @returns {Stay | undefined}
 */
export function keptStay() {
  return JSON.parse(storage()?.getItem(KEY) ?? "null") ?? undefined;
}

/** @param {Stay} stay */
export function keepStay(stay) {
  storage()?.setItem(KEY, JSON.stringify(stay));
}

export function endStay() {
  storage()?.removeItem(KEY);
}

function storage() {
  try {
    return sessionStorage;
  } catch {
    // Where a browser blocks what sites store, the name alone throws.
    return undefined;
  }
}
