// @ts-check
/** The buttons under the videos, which both views have. */

import { byId, kbd } from "./dom.js";

/** Say on the buttons what the player does. @param {import("./player.js").PairPlayer} player */
export function showState(player) {
  byId("play").replaceChildren(player.playing ? "Pause " : "Play ", kbd("space"));
  const speed = { 1: "1×", 0.5: "½×", 0.25: "¼×" }[player.rate];
  byId("speed").replaceChildren(`Speed ${speed} `, kbd("S"));
}

/**
 * Loop the whole videos, or the segment again.
 * @param {import("./player.js").PairPlayer} player
 * @param {{start: number, end: number, frames: number} | null} shown
 */
export function toggleWhole(player, shown) {
  if (!shown) return;
  const whole = byId("whole").getAttribute("aria-pressed") !== "true";
  byId("whole").setAttribute("aria-pressed", String(whole));
  if (whole) player.loop(0, shown.frames);
  else player.loop(shown.start, shown.end);
}

/** @param {import("./player.js").PairPlayer} player @returns {Record<string, () => void>} */
export function playerActions(player) {
  return {
    play: () => player.toggle(),
    slower: () => player.slower(),
    "frame-back": () => player.step(-1),
    "frame-on": () => player.step(1),
  };
}
