// @ts-check
/** The view in which one annotator answers one question after the other. */

import { ApiError } from "./api.js";
import { byId, say } from "./dom.js";
import { factsText, progressText } from "./facts.js";
import { listen } from "./keys.js";
import { PairPlayer } from "./player.js";
import { Session } from "./session.js";
import { Timeline } from "./timeline.js";
import { playerActions, showState, toggleWhole } from "./transport.js";

/**
 * @typedef {{number: number, key: string, segment: number | null, repeat: number, start: number, end: number,
 *   answer: string | null, prompt: string, fps: number, frames: number, aspect: number, left: string,
 *   right: string, timeline: import("./timeline.js").Segment[], upcoming: string[]}} Question
 * @typedef {{question: Question | null, progress: import("./facts.js").Progress}} State
 */

/** @type {Question | null} */
let question = null;
/** Whether answers are taken: both videos are shown, and the last answer is on disk. */
let ready = false;

const session = new Session((message) => say(byId("trouble"), message));
const timeline = new Timeline(byId("timeline"), (number) => go(`api/question?number=${number}`));
const player = new PairPlayer(byId("left"), byId("right"), {
  onFrame: (frame) => timeline.move(frame),
  onState: showState,
});

/** @param {boolean} value */
function setReady(value) {
  ready = value;
  byId("task").dataset.ready = String(value);
  for (const button of byId("answers").querySelectorAll("button")) button.setAttribute("aria-disabled", String(!value));
}

/** Show one of the page's three sheets. @param {"join" | "task" | "done"} name */
function open(name) {
  for (const id of ["join", "task", "done"]) byId(id).hidden = id !== name;
  byId("progress").hidden = name === "join";
}

/** What was answered, on buttons and videos. @param {string | null} answer */
function mark(answer) {
  for (const button of byId("answers").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.action === answer));
  }
  for (const side of ["left", "right"]) byId(side).closest(".side").classList.toggle("chosen", side === answer);
  byId("left").closest(".pair").classList.toggle("tie", answer === "tie");
}

/** @param {State} state */
async function show({ question: next, progress }) {
  const before = question;
  question = next;
  byId("progress-bar").max = progress.total;
  byId("progress-bar").value = progress.answered;
  byId("progress-text").textContent = progressText(progress);
  byId("facts").textContent = factsText(progress);
  say(byId("video-error"), "");
  if (!next) return finish(progress);
  open("task");
  const part = next.segment === null ? "whole video" : `segment ${next.segment + 1} of ${next.timeline.length}`;
  byId("where").textContent = `Pair ${next.key} · ${part}`;
  byId("prompt").textContent = next.prompt;
  byId("whole").setAttribute("aria-pressed", "false");
  byId("whole").hidden = next.timeline.length < 2;
  timeline.render(next.timeline, next.number, next.fps, next.frames);
  mark(next.answer);
  const saved = before ? "Saved. " : "";
  byId("status").textContent = `${saved}Pair ${next.key}, ${part}${next.answer ? `, answered ${next.answer}` : ""}.`;
  try {
    const shown = await player.show(next);
    if (shown) setReady(true);
    preload(next.upcoming);
  } catch (error) {
    // The annotator goes on with the next question; this one stays open.
    say(byId("video-error"), `${/** @type {Error} */ (error).message} Press N for the next question.`);
  }
}

/** Fetch the videos of the next pair while this one is judged. @param {string[]} urls */
function preload(urls) {
  preload.kept = urls.map((url) => {
    const video = document.createElement("video");
    video.preload = "auto";
    video.muted = true;
    video.src = url;
    return video;
  });
}
/** Kept so that they are not collected. @type {HTMLVideoElement[]} */
preload.kept = [];

/** @param {import("./facts.js").Progress} progress */
function finish(progress) {
  setReady(false);
  player.pause();
  open("done");
  byId("done-text").textContent = `Thank you. ${progress.answered} answers are saved.`;
  byId("done-title").focus();
}

/** Ask for another question, or answer this one. @param {string} path @param {object} [body] */
async function go(path, body) {
  setReady(false);
  try {
    await show(await session.call(path, body));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "name_taken") return askName(error.message);
    if (error.code === "stale") return location.reload();
    say(byId("trouble"), `Not saved: ${error.message}`);
    setReady(question !== null);
  }
}

/** @param {string} given left, right or tie */
function answer(given) {
  if (!ready || !question) return;
  const { number, key, segment, repeat } = question;
  mark(given);
  go("api/answer", { number, key, segment, repeat, answer: given });
}

/** @param {string} [fault] why the last name was refused */
function askName(fault = "") {
  session.annotator = "";
  open("join");
  say(byId("join-error"), fault);
  byId("name").value ||= session.lastName;
  byId("name").focus();
}

/** @param {string} name */
async function join(name) {
  try {
    await session.join(name);
  } catch (error) {
    if (error instanceof ApiError) return askName(error.message);
    throw error;
  }
  say(byId("join-error"), "");
  byId("annotator").textContent = session.annotator;
  await go("api/question");
}

listen({
  left: () => answer("left"),
  right: () => answer("right"),
  tie: () => answer("tie"),
  back: () => session.annotator && go(`api/question?before=${question ? question.number : 2 ** 31}`),
  skip: () => question && go(`api/question?after=${question.number}`),
  whole: () => toggleWhole(player, question),
  help: () => byId("help").showModal(),
  ...playerActions(player),
});
byId("join-form").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  join(byId("name").value);
});
if (session.former) join(session.former);
else askName();
