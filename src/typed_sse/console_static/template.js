/**
 * Clones the page's templates and finds their named parts. Knows nothing of what they show.
 */

/**
 * Return a copy of the element in the template `id`.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function clone(id) {
  const template = document.getElementById(id);
  if (!(template instanceof HTMLTemplateElement)) throw new Error(`the page has no template ${id}`);
  return /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
}

/**
 * Return the one element under `root` with `data-part="name"`.
 *
 * @template {HTMLElement} E
 * @param {HTMLElement} root
 * @param {string} name
 * @param {new () => E} type
 * @returns {E}
 */
export function part(root, name, type) {
  const found = root.querySelector(`[data-part="${name}"]`);
  if (!(found instanceof type)) throw new Error(`the page has no part ${name} of that type`);
  return found;
}
