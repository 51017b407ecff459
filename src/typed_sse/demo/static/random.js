/**
 * Names that no two tabs have.
 */

/**
 * Return random bytes as hexadecimal digits, two for each.
 *
 * @param {number} bytes
 */
export function randomHex(bytes) {
  // Not `randomUUID`, which only pages over HTTPS have.
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
