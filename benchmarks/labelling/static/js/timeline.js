// @ts-check
/** The segments of a pair, as long as they are, with what was answered. */

import { make } from "./dom.js";

/**
 * @typedef {{number: number | null, segment: number | null, start: number, end: number, answer: string | null}} Segment
 *   number: of its question, null where it cannot be gone to; start, end: frames; answer: left, right or tie
 */

/** @type {Record<string, string>} */
const MARKS = { left: "←", right: "→", tie: "=" };

/** @param {number} frames @param {number} fps */
function seconds(frames, fps) {
  return (frames / fps).toFixed(1).replace(/\.0$/, "");
}

export class Timeline {
  /** @param {HTMLElement} element @param {(number: number) => void} onPick told the number of a question that is clicked */
  constructor(element, onPick) {
    this.element = element;
    this.onPick = onPick;
    this.playhead = make("span", { class: "playhead", "aria-hidden": "true" });
    this.frames = 1;
  }

  /** @param {Segment[]} segments @param {number} current number of the question @param {number} fps @param {number} frames */
  render(segments, current, fps, frames) {
    this.frames = frames;
    const focused = this.element.contains(document.activeElement);
    this.element.replaceChildren(...segments.map((segment) => this.#button(segment, current, fps)), this.playhead);
    // The button that had the focus is gone; without this, the next Tab would begin at the top of the page.
    if (focused) /** @type {HTMLElement | null} */ (this.element.querySelector("[aria-current]"))?.focus();
  }

  /** @param {number} frame the one that is shown, with its fraction */
  move(frame) {
    this.playhead.style.left = `${Math.min(100, (100 * frame) / this.frames)}%`;
  }

  /** @param {Segment} segment @param {number} current @param {number} fps */
  #button(segment, current, fps) {
    const name = segment.segment === null ? "Whole video" : `Segment ${segment.segment + 1}`;
    const span = `${seconds(segment.start, fps)}–${seconds(segment.end, fps)} s`;
    const mark = make("span", { class: "answer-mark", "aria-hidden": "true" }, MARKS[segment.answer ?? ""] ?? "·");
    const button = /** @type {HTMLButtonElement} */ (make(
      "button",
      {
        type: "button",
        class: segment.answer ?? "open",
        "aria-label": `${name}, ${span}, ${segment.answer ? `answered ${segment.answer}` : "open"}`,
      },
      mark,
      make("span", { class: "time", "aria-hidden": "true" }, span),
    ));
    button.style.flexGrow = String(segment.end - segment.start);
    if (segment.number === current) button.setAttribute("aria-current", "true");
    const { number } = segment;
    if (number === null) button.disabled = true;
    else button.addEventListener("click", () => this.onPick(number));
    return button;
  }
}
