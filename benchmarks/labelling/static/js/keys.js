// @ts-check
/** Keys and buttons to actions; each button with `data-action` does what its key does. */

/** @type {Record<string, string>} */
const KEYS = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowDown: "tie",
  t: "tie",
  Backspace: "back",
  ArrowUp: "back",
  n: "skip",
  " ": "play",
  s: "slower",
  ",": "frame-back",
  ".": "frame-on",
  w: "whole",
  "?": "help",
};
/** Only stepping through frames goes on while a key is held down: an answer is one press. */
const HELD = new Set(["frame-back", "frame-on"]);

/** @param {KeyboardEvent} event @returns {string | undefined} the action of a key, where it is the page's to use */
function actionOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return undefined;
  if (document.querySelector("dialog[open]")) return undefined;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest("input, select, textarea")) return undefined;
  // The space bar presses the button that has the focus, as everywhere.
  if (event.key === " " && target.closest("button, a")) return undefined;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  return event.repeat && !HELD.has(action) ? undefined : action;
}

/** @param {Record<string, () => void>} actions by name; keys of others do nothing */
export function listen(actions) {
  addEventListener("keydown", (event) => {
    const action = actionOf(event);
    if (action === undefined || !(action in actions)) return;
    event.preventDefault();
    actions[action]();
  });
  for (const button of document.querySelectorAll("[data-action]")) {
    const action = /** @type {HTMLElement} */ (button).dataset.action ?? "";
    button.addEventListener("click", () => actions[action]());
  }
}
