// @ts-check
/** The view of who agrees with whom, which plays the segments on which they do not. */

import { request } from "./api.js";
import { byId, make, say } from "./dom.js";
import { percent } from "./facts.js";
import { listen } from "./keys.js";
import { PairPlayer } from "./player.js";
import { playerActions, showState, toggleWhole } from "./transport.js";

/**
 * @typedef {{key: string, prompt: string, fps: number, frames: number, aspect: number,
 *   segments: number[][], first: string, second: string, labels: Record<string, (number | null)[]>, differs: boolean[]}} Pair
 * @typedef {{pair: Pair, segment: number, button: HTMLElement}} Stop a segment that can be played
 */

const PAGE = 20;
/** Label -> class, sign, word. @type {Record<string, [string, string, string]>} */
const LABELS = { 1: ["left", "1", "first"], "-1": ["right", "2", "second"], 0: ["tie", "=", "tie"] };

let offset = 0;
/** @type {Stop[]} */
let stops = [];
/** Index of the stop that plays; -1 = none. */
let current = -1;
/** @type {{start: number, end: number, frames: number} | null} */
let shown = null;

const player = new PairPlayer(byId("left"), byId("right"), { onState: showState });

/** @param {number | null} value @param {number} [digits] */
function number(value, digits = 2) {
  return value === null ? "–" : value.toFixed(digits);
}

/** @param {HTMLElement} table @param {string[]} head @param {string[][]} rows */
function fill(table, head, rows) {
  const cells = (/** @type {string[]} */ texts, /** @type {string} */ tag) => texts.map((text) => make(tag, {}, text));
  table.replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row, "td")))),
  );
  table.hidden = !rows.length;
}

async function showSummary() {
  const { table, repeats } = await request("api/agreement");
  const share = (/** @type {number | null} */ value) => (value === null ? "–" : percent(value, 1));
  const rows = table.map((/** @type {any} */ row) => [
    `${row.first} and ${row.second}`, String(row.items), share(row.accuracy), share(row.accuracy_both_decided),
    number(row.kappa),
  ]);
  fill(byId("table"), ["", "items", "equal", "equal, no ties", "kappa"], rows);
  byId("no-table").hidden = rows.length > 0;
  const twice = repeats.map((/** @type {any} */ row) => [
    row.name || "unnamed", String(row.twice), String(row.alike), percent(row.alike, row.twice),
  ]);
  fill(byId("repeats"), ["", "asked twice", "alike", "share"], twice);
  byId("no-repeats").hidden = twice.length > 0;
}

async function showPairs() {
  const only = byId("only").checked;
  const query = `offset=${offset}&limit=${PAGE}${only ? "&only=disagreements" : ""}`;
  const { total, pairs } = await request(`api/agreement/pairs?${query}`);
  stops = [];
  current = -1;
  byId("pairs").replaceChildren(...pairs.map(card));
  const none = only ? "There is no segment that two label differently." : "There are no labels yet.";
  say(byId("no-pairs"), total ? "" : none);
  byId("page").textContent = total ? `${offset + 1} to ${offset + pairs.length} of ${total}` : "";
  byId("previous-page").hidden = offset === 0;
  byId("next-page").hidden = offset + pairs.length >= total;
}

/** One pair: a row for each source, a column for each segment. @param {Pair} pair */
function card(pair) {
  const only = byId("only").checked;
  const head = pair.segments.map((frames, segment) => {
    const span = frames.map((frame) => (frame / pair.fps).toFixed(1)).join(" to ");
    const name = `Play ${span} s of pair ${pair.key}${pair.differs[segment] ? ", they disagree" : ""}`;
    const button = make("button", { type: "button", "aria-label": name, title: `${span} s` }, String(segment + 1));
    const stop = { pair, segment, button };
    if (pair.differs[segment] || !only) stops.push(stop);
    button.addEventListener("click", () => play(stop));
    return make("td", {}, button);
  });
  const rows = Object.entries(pair.labels)
    .filter(([, labels]) => labels.some((label) => label !== null))
    .map(([name, labels]) => make("tr", {}, make("th", { scope: "row" }, name), ...labels.map((label, segment) => {
      const [kind, sign, word] = label === null ? ["none", "·", "no label"] : LABELS[label];
      const differs = pair.differs[segment] && label !== null ? " differs" : "";
      return make("td", {}, make("span", { class: `mark ${kind}${differs}`, role: "img", "aria-label": word }, sign));
    })));
  const grid = make("table", { class: "grid" }, make("tbody", {}, make("tr", {}, make("th", {}, ""), ...head), ...rows));
  const title = make("h3", { title: pair.prompt }, pair.prompt);
  return make("article", { class: "card" }, title, make("p", {}, pair.key), make("div", { class: "scroll" }, grid));
}

/** @param {Stop} stop */
async function play(stop) {
  const { pair, segment, button } = stop;
  current = stops.indexOf(stop);
  for (const other of byId("pairs").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-pressed", "true");
  const [start, end] = pair.segments[segment];
  shown = { start, end, frames: pair.frames };
  byId("player").hidden = false;
  byId("whole").setAttribute("aria-pressed", "false");
  const span = `${(start / pair.fps).toFixed(1)} to ${(end / pair.fps).toFixed(1)} s`;
  const labels = Object.entries(pair.labels)
    .filter(([, given]) => given[segment] !== null)
    .map(([name, given]) => `${name}: ${LABELS[String(given[segment])][2]}`);
  byId("where").textContent = `Pair ${pair.key} · ${span} · ${labels.join(", ")}`;
  byId("prompt").textContent = pair.prompt;
  byId("status").textContent = byId("where").textContent;
  say(byId("video-error"), "");
  byId("player").scrollIntoView({ block: "nearest" });
  try {
    await player.show({ left: pair.first, right: pair.second, fps: pair.fps, aspect: pair.aspect, start, end });
    byId("player").dataset.ready = `${pair.key}/${segment}`;
  } catch (error) {
    say(byId("video-error"), /** @type {Error} */ (error).message);
  }
}

/** @param {1 | -1} by */
function move(by) {
  if (stops.length) play(stops[(current + by + stops.length + (current < 0 && by < 0 ? 1 : 0)) % stops.length]);
}

/** Show what can be shown, or why not. @param {() => Promise<void>} work */
async function attempt(work) {
  try {
    await work();
    say(byId("trouble"), "");
  } catch (error) {
    say(byId("trouble"), /** @type {Error} */ (error).message);
  }
}

/** @param {number} by pairs */
function turn(by) {
  offset = Math.max(0, offset + by);
  attempt(showPairs);
}

listen({
  back: () => move(-1),
  tie: () => move(1),
  whole: () => toggleWhole(player, shown),
  ...playerActions(player),
});
byId("only").addEventListener("change", () => turn(-offset));
byId("previous-page").addEventListener("click", () => turn(-PAGE));
byId("next-page").addEventListener("click", () => turn(PAGE));
attempt(showSummary);
attempt(showPairs);
