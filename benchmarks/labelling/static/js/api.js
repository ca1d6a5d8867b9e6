// @ts-check
/** Requests to the page's server, which is where the page came from; nothing else is ever asked. */

/** What the server refuses, with the word by which the page knows the reason. */
export class ApiError extends Error {
  /** @param {string} message @param {string} code @param {number} status */
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/**
 * @param {string} path relative to the page, so that the token stays in the address
 * @param {{method?: string, body?: object, session?: string}} [options]
 * @returns {Promise<any>} the answer's JSON; null where it is empty
 * @throws {ApiError} the server refuses
 * @throws {TypeError} the server does not answer
 */
export async function request(path, { method = "GET", body, session } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (session) headers["X-Session"] = session;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  if (response.ok) return response.status === 204 ? null : response.json();
  const text = await response.text();
  let fault = { error: text || response.statusText, code: "" };
  try {
    fault = JSON.parse(text);
  } catch {
    // A plain text is the message itself.
  }
  throw new ApiError(fault.error, fault.code, response.status);
}
