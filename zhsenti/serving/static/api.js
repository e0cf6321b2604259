// Requests to the service: one error type, the API key asked for when it is needed, waiting when the service is busy.

import { $, recall, remember } from "./dom.js";
import { Problem, onLanguage, serviceWords, t } from "./strings.js";

const KEY = "zhsenti-key"; // in sessionStorage: gone when the tab closes

/** What the service answered instead of a result. `said`: for people, in the page's language. */
export class ServiceError extends Error {
  constructor(status, error, retryAfter) {
    super(error.code);
    this.status = status;
    this.code = error.code;
    this.words = error.message;
    this.details = error.details ?? [];
    this.retryAfter = retryAfter; // seconds
  }

  get said() {
    return this.saidFor(this.details[0]?.message);
  }

  /** With the words of one of its details. */
  saidFor(detail) {
    return serviceWords(this.code, detail && detail !== this.words ? `${this.words}：${detail}` : this.words);
  }
}

/**
 * The answer to GET `path`, or to POST with `body`.
 * onBusy(seconds): called before waiting when the service is busy; without it being busy is an error like others.
 * Throws ServiceError, Problem (network), AbortError.
 */
export async function call(path, { body, signal, onBusy } = {}) {
  for (;;) {
    const sent = key;
    const response = await send(path, body, sent, signal);
    if (response.ok) return await answerOf(response);
    const error = await errorOf(response);
    if (error.status === 401) {
      if (key === sent) await unlessAborted(newKey(sent !== null), signal);
    } else if (error.status === 429 && onBusy) {
      onBusy(error.retryAfter);
      await sleep(error.retryAfter, signal);
    } else {
      throw error;
    }
  }
}

async function send(path, body, key, signal) {
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers,
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem("network");
  }
}

async function answerOf(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(error instanceof SyntaxError ? "bad_answer" : "network", { status: response.status });
  }
}

async function errorOf(response) {
  const answer = await answerOf(response);
  if (typeof answer?.error?.code !== "string") throw new Problem("bad_answer", { status: response.status });
  return new ServiceError(response.status, answer.error, Number(response.headers.get("Retry-After")) || 1);
}

/** Resolves after `seconds`; rejects with AbortError when `signal` says so first. */
function sleep(seconds, signal) {
  return unlessAborted(new Promise((resolve) => setTimeout(resolve, 1000 * seconds)), signal);
}

/** What `promise` gives; rejects with AbortError when `signal` says so first. */
export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

// ── the key ─────────────────────────────────────────────────────────────────────────────────────────────────────────

let key = recall("sessionStorage", KEY); // also here: the storage may be switched off
let asked = null; // the promise of a key, shared by all requests that wait for one
let hint = "key_hint";

function newKey(wasRefused) {
  asked ??= new Promise((resolve) => {
    const panel = $("key-panel");
    showHint(wasRefused ? "key_wrong" : "key_hint");
    panel.hidden = false;
    $("key").focus();
    panel.onsubmit = (event) => {
      event.preventDefault();
      const typed = $("key").value.trim();
      if (!/^[!-~]+$/.test(typed)) return showHint("key_characters");
      key = typed;
      remember("sessionStorage", KEY, key);
      $("key").value = "";
      panel.hidden = true;
      asked = null;
      resolve();
    };
  });
  return asked;
}

function showHint(key) {
  hint = key;
  $("key-hint").textContent = t(hint);
}

onLanguage(() => showHint(hint));
