// @ts-check
/** Short ways to the page's elements. */

/** @param {string} id @returns {any} the element, which exists */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element ${id}`);
  return element;
}

/**
 * @param {string} tag @param {Record<string, string>} [attributes] @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Show a text in an element, and the element only where there is one. @param {HTMLElement} element @param {string} text */
export function say(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

/** A key's name as it is printed on a button. @param {string} key */
export function kbd(key) {
  return make("kbd", {}, key);
}
