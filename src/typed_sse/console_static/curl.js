/**
 * One request, described for fetch and for curl, so that what is copied is what was sent.
 *
 * Knows curl's options and a shell's word; sends nothing.
 */

/**
 * @typedef {object} StreamRequest
 * @property {string} url
 * @property {{ method: string, headers?: Record<string, string>, body?: string }} init
 */

/**
 * Return the command that sends the same from a POSIX shell.
 *
 * @param {StreamRequest} request
 */
export function curlCommand({ url, init }) {
  const words = ["curl", "-N"];
  // To curl, brackets and braces in a URL are patterns.
  if (/[[\]{}]/.test(url)) words.push("-g");
  if (init.method !== (init.body === undefined ? "GET" : "POST")) words.push("-X", init.method);
  words.push(shellWord(url));
  for (const [name, value] of Object.entries(init.headers ?? {})) {
    // With a colon and nothing behind it, curl would leave the header out.
    words.push("-H", shellWord(value === "" ? `${name};` : `${name}: ${value}`));
  }
  // --data-raw and not -d, for which a leading @ would name a file.
  if (init.body !== undefined) words.push("--data-raw", shellWord(init.body));
  return words.join(" ");
}

/** @param {string} text */
function shellWord(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
