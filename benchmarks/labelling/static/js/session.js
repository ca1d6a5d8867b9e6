// @ts-check
/** One window that labels under one name: joins, says that it is still open, and tries again what did not get through. */

import { ApiError, request } from "./api.js";

const ALIVE_MS = 5000;
const RETRY_MS = 1500;
const STORED = "vidpref-label";

/** 128 random bits in hex; crypto.randomUUID does not exist on plain http beyond this machine. */
function draw() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Session {
  /** @param {(message: string) => void} onTrouble told while the server does not answer, "" when it does again */
  constructor(onTrouble) {
    this.onTrouble = onTrouble;
    /** The name under which this window labels; "" before it has joined. */
    this.annotator = "";
    // The identity outlives a reload, but is not there while the page is open: a duplicated tab would take it along.
    const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
    sessionStorage.removeItem(STORED);
    /** @type {string} */
    this.identity = stored.identity ?? draw();
    /** The name of this window before a reload; "" otherwise. @type {string} */
    this.former = stored.annotator ?? "";
    addEventListener("pagehide", () => this.#hide());
    addEventListener("pageshow", (event) => event.persisted && location.reload());
    setInterval(() => this.annotator && this.#alive(), ALIVE_MS);
  }

  /** The name that was last used in this browser. */
  get lastName() {
    return localStorage.getItem(STORED) ?? "";
  }

  /**
   * @param {string} name
   * @throws {ApiError} another window labels under the name, or it is none
   */
  async join(name) {
    const body = { session: this.identity, annotator: name };
    const joined = await this.#persist(() => request("api/join", { method: "POST", body }));
    this.annotator = joined.annotator;
    localStorage.setItem(STORED, this.annotator);
  }

  /**
   * A request of this window, repeated until the server answers: after a restart it is joined first.
   * @param {string} path @param {object} [body] sent by POST
   * @returns {Promise<any>}
   */
  async call(path, body) {
    const method = body ? "POST" : "GET";
    const send = () => this.#persist(() => request(path, { method, body, session: this.identity }));
    try {
      return await send();
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "join") throw error;
    }
    await this.join(this.annotator);
    return send();
  }

  /** @template T @param {() => Promise<T>} send @returns {Promise<T>} */
  async #persist(send) {
    for (;;) {
      try {
        const answer = await send();
        this.onTrouble("");
        return answer;
      } catch (error) {
        if (error instanceof ApiError) {
          this.onTrouble("");
          throw error;
        }
        this.onTrouble("The server does not answer. This page goes on by itself as soon as it does; nothing is lost.");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** A failure is not shown: the next answer will meet it, too. */
  async #alive() {
    try {
      await request("api/alive", { method: "POST", body: {}, session: this.identity });
    } catch (error) {
      if (error instanceof ApiError && error.code === "join") await this.join(this.annotator).catch(() => {});
    }
  }

  #hide() {
    if (!this.annotator) return;
    sessionStorage.setItem(STORED, JSON.stringify({ identity: this.identity, annotator: this.annotator }));
    navigator.sendBeacon("api/leave", JSON.stringify({ session: this.identity }));
  }
}
