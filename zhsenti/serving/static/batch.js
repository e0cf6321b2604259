// Many texts in small requests, two at a time: a text that cannot be judged costs itself only.

import { call } from "./api.js";
import { serviceWords } from "./strings.js";

const CHUNK = 16; // texts a request
const AT_ONCE = 2; // requests
// Refusals that one text of a request may be the cause of: the request is asked again in halves.
const DIVISIBLE = ["too_many_texts", "too_long", "body_too_large", "model_failed", "invalid_request", "invalid_json"];

/**
 * Judge `items` {text, aspect (or null)} by the model called `name`.
 * controller: an AbortController; one request's failure stops the others through it too.
 * onSettled(item, {result} or {error}) for each as it comes; onBusy(seconds) before a wait.
 * Throws what stops them all: Problem (network), ServiceError (401, 503, …), AbortError. Items not settled may be given again.
 */
export async function judgeAll(items, name, { controller, onSettled, onBusy }) {
  const chunks = [];
  for (let i = 0; i < items.length; i += CHUNK) chunks.push(items.slice(i, i + CHUNK));
  let first = null;
  const work = async () => {
    try {
      for (let chunk = chunks.shift(); chunk; chunk = chunks.shift()) {
        chunks.unshift(...(await settle(chunk, name, { signal: controller.signal, onSettled, onBusy })));
      }
    } catch (error) {
      first ??= error;
      controller.abort();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (first) throw first;
}

/** Chunks that are still to be asked. */
async function settle(chunk, name, { signal, onSettled, onBusy }) {
  const body = { texts: chunk.map(({ text }) => text), model: name };
  if (chunk[0].aspect !== null) body.aspect = chunk.map(({ aspect }) => aspect);
  let answer;
  try {
    answer = await call("/v1/predict", { body, signal, onBusy });
  } catch (error) {
    const named = faultsByIndex(error, chunk.length);
    if (named.size > 0) {
      for (const [index, words] of named) onSettled(chunk[index], { error: words });
      const rest = chunk.filter((_, index) => !named.has(index));
      return rest.length > 0 ? [rest] : [];
    }
    if (!DIVISIBLE.includes(error.code)) throw error;
    if (chunk.length > 1) return [chunk.slice(0, chunk.length / 2), chunk.slice(chunk.length / 2)];
    onSettled(chunk[0], { error: () => error.said });
    return [];
  }
  answer.results.forEach((result, index) => onSettled(chunk[index], { result }));
  return [];
}

/** index -> words, of the texts (or aspects) that a 422 names. */
function faultsByIndex(error, length) {
  const named = new Map();
  for (const { loc, message } of error.status === 422 ? error.details : []) {
    const index = loc.at(-1);
    if (Number.isInteger(index) && index < length) named.set(index, () => serviceWords(error.code, message));
  }
  return named;
}
