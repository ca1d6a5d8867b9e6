// @ts-check
/** Two videos that play one range of frames in step, again and again. */

import { ApiError, request } from "./api.js";

const RATES = [1, 0.5, 0.25];
/** Videos of fewer pixels a side are shown with sharp pixels. */
const COARSE = 160;

/** @param {HTMLVideoElement} video @param {number} time seconds */
function seek(video, time) {
  return new Promise((resolve) => {
    video.addEventListener("seeked", resolve, { once: true });
    video.currentTime = time;
  });
}

/** Why a video cannot be shown: the server's words, which the element does not pass on, or the browser's own.
 * @param {HTMLVideoElement} video @param {string} url */
async function reason(video, url) {
  try {
    await request(url);
  } catch (error) {
    if (error instanceof ApiError) return error.message;
  }
  return `this browser cannot play it (${video.error?.message || "unknown format"})`;
}

/** @param {HTMLVideoElement} video @param {string} url @returns {Promise<void>} when its first frame is there */
function load(video, url) {
  return new Promise((resolve, reject) => {
    if (video.dataset.url === url && video.readyState >= 2) return resolve();
    const done = new AbortController();
    const { signal } = done;
    video.addEventListener("loadeddata", () => {
      done.abort();
      video.classList.toggle("coarse", Math.max(video.videoWidth, video.videoHeight) < COARSE);
      resolve();
    }, { signal });
    video.addEventListener("error", async () => {
      done.abort();
      delete video.dataset.url;
      reject(new Error(`${video.getAttribute("aria-label")}: ${await reason(video, url)}.`));
    }, { signal });
    video.dataset.url = url;
    video.src = url;
  });
}

export class PairPlayer {
  /**
   * @param {HTMLVideoElement} left @param {HTMLVideoElement} right
   * @param {{onFrame?: (frame: number) => void, onState?: (player: PairPlayer) => void}} [listeners]
   *   onFrame gets the frame that is shown, with its fraction; onState is called when playing or the speed changes
   */
  constructor(left, right, { onFrame = () => {}, onState = () => {} } = {}) {
    this.left = left;
    this.right = right;
    this.onFrame = onFrame;
    this.onState = onState;
    this.fps = 1;
    /** Frames that loop: from the first to the one behind the last. */
    this.range = [0, 1];
    this.playing = false;
    this.rate = RATES[0];
    /** Counts loads and seeks: what an older one still has to do is left. */
    this.turn = 0;
  }

  get videos() {
    return [this.left, this.right];
  }

  /**
   * Show a range of frames of two videos from its beginning.
   * @param {{left: string, right: string, fps: number, aspect: number, start: number, end: number}} shown
   *   addresses, frames per second, width over height, frames that loop
   * @returns {Promise<boolean>} whether it is shown: false where another one was asked for meanwhile
   * @throws {Error} a video cannot be played; says which and why
   */
  async show({ left, right, fps, aspect, start, end }) {
    const turn = ++this.turn;
    for (const video of this.videos) video.parentElement?.style.setProperty("--aspect", String(aspect));
    this.videos.forEach((video) => video.pause());
    await Promise.all([load(this.left, left), load(this.right, right)]);
    if (turn !== this.turn) return false;
    this.fps = fps;
    this.range = [start, end];
    // Where the system asks for less motion nothing moves by itself.
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    await this.#begin(turn, !still);
    return turn === this.turn;
  }

  /** Loop other frames of the same videos. @param {number} start @param {number} end */
  async loop(start, end) {
    this.range = [start, end];
    await this.#begin(++this.turn, this.playing);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.#run();
  }

  pause() {
    this.playing = false;
    this.videos.forEach((video) => video.pause());
    this.onState(this);
  }

  /** Full, half, quarter speed, and full speed again. */
  slower() {
    this.rate = RATES[(RATES.indexOf(this.rate) + 1) % RATES.length];
    this.#setRate();
    this.onState(this);
  }

  /** Pause, and show the frame before or behind the one that is shown. @param {1 | -1} by */
  async step(by) {
    this.pause();
    const turn = ++this.turn;
    const [start, end] = this.range;
    const frame = Math.floor(this.left.currentTime * this.fps + 0.01) + by;
    const wrapped = frame < start ? end - 1 : frame >= end ? start : frame;
    await this.#seek((wrapped + 0.5) / this.fps);
    if (turn === this.turn) this.onFrame(wrapped);
  }

  /** @param {number} turn @param {boolean} play */
  async #begin(turn, play) {
    this.playing = play;
    this.videos.forEach((video) => video.pause());
    // A little behind the frame's beginning: times are rounded, and the frame before must not appear.
    await this.#seek((this.range[0] + 0.1) / this.fps);
    if (turn !== this.turn) return;
    this.onFrame(this.range[0]);
    if (this.playing) await this.#run(); // unless the annotator has paused it meanwhile
    else this.pause();
  }

  #setRate() {
    for (const video of this.videos) video.defaultPlaybackRate = video.playbackRate = this.rate;
  }

  /** @param {number} time */
  #seek(time) {
    return Promise.all(this.videos.map((video) => seek(video, time)));
  }

  async #run() {
    this.#setRate();
    this.playing = true;
    this.onState(this);
    const turn = this.turn;
    // A pause before the first frame rejects the promise, and is no fault.
    await Promise.all(this.videos.map((video) => video.play().catch(() => {})));
    const tick = () => {
      if (turn !== this.turn || !this.playing) return;
      const { currentTime, ended } = this.left;
      const last = this.range[1] / this.fps;
      if (ended || currentTime >= last - 0.25 / this.fps) {
        this.#begin(++this.turn, true);
        return;
      }
      // Each loop begins in step; a long video may drift apart within one.
      if (Math.abs(this.right.currentTime - currentTime) > 1.5 / this.fps && !this.right.seeking) {
        this.right.currentTime = currentTime;
      }
      this.onFrame(currentTime * this.fps);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }
}
