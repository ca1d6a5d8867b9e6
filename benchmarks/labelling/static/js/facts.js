// @ts-check
/** Progress, pace and consistency in words. */

/**
 * @typedef {{answered: number, total: number, seconds_each: number | null, seconds_left: number | null,
 *   asked_twice: number, alike: number, decided: number, left: number}} Progress
 */

/** A share of sides is shown from so many answers on. */
const ENOUGH = 10;

/** @param {number} seconds @returns {string} rounded to what a person can use */
export function duration(seconds) {
  if (seconds < 60) return "less than a minute";
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `about ${minutes} min`;
  return `about ${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** @param {number} part @param {number} whole */
export function percent(part, whole) {
  return `${Math.round((100 * part) / whole)}%`;
}

/** @param {Progress} progress */
export function progressText({ answered, total, seconds_left: left }) {
  const time = left === null || answered === total ? "" : ` · ${duration(left)} left`;
  return `${answered} of ${total}${time}`;
}

/** @param {Progress} progress */
export function factsText({ seconds_each: each, asked_twice: twice, alike, decided, left }) {
  const facts = [];
  if (each !== null) facts.push(`${each.toFixed(1)} s an answer`);
  if (twice) facts.push(`asked twice: ${alike} of ${twice} answered alike (${percent(alike, twice)})`);
  if (decided >= ENOUGH) facts.push(`left side chosen: ${percent(left, decided)}`);
  return facts.join(" · ");
}
