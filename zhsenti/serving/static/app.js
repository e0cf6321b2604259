// The page's frame: language, theme, tabs, models, the status line. What is done in the tabs is in single.js and many.js.

import { call, unlessAborted } from "./api.js";
import { $, alertIn, el, recall, remember } from "./dom.js";
import { startMany } from "./many.js";
import { startSingle } from "./single.js";
import { Problem, language, onLanguage, switchLanguage, t } from "./strings.js";

const READY_EVERY = 10_000; // ms
const WARMING_EVERY = 1_500;
const state = { models: [], version: "", status: null, failure: null };
let loading = null; // the promise of state.models
let loader = null; // AbortController of the newest loading

// ── language and theme ──────────────────────────────────────────────────────────────────────────────────────────────

function renderWords() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
  $("language").textContent = t("to_language");
  $("language").lang = language === "zh" ? "en" : "zh-CN";
  renderTheme();
  renderStatus();
  renderStartup();
  renderAbout();
}

function renderTheme() {
  $("theme").textContent = t(document.documentElement.dataset.theme === "dark" ? "to_light" : "to_dark");
}

function switchTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  remember("localStorage", "zhsenti-theme", theme);
  document.documentElement.dataset.theme = theme;
}

// ── tabs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TABS = ["single", "many"];

function openTab(name) {
  for (const one of TABS) {
    $(one).hidden = one !== name;
    $(`tab-${one}`).setAttribute("aria-selected", String(one === name));
    $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
  }
}

function onTabKey(event) {
  const now = TABS.findIndex((name) => event.target.id === `tab-${name}`);
  const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: -1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const name = TABS.at(next % TABS.length);
  openTab(name);
  $(`tab-${name}`).focus();
}

// ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const model = () => state.models.find(({ name }) => name === $("model").value);

/**
 * {model, aspect} to ask with; aspect is null where the model takes none.
 * Throws Problem or ServiceError when the service has not said, AbortError when `signal` says so first.
 */
async function chosen(signal) {
  await unlessAborted(loading, signal);
  if (state.models.length === 0) await unlessAborted(reload(), signal);
  if (state.models.length === 0) throw state.failure ?? new Problem("network");
  return { model: model(), aspect: model().has_aspect ? $("aspect").value.trim() : null };
}

function reload() {
  loader?.abort();
  loader = new AbortController();
  return (loading = loadModels(loader.signal));
}

async function loadModels(signal) {
  state.failure = null;
  try {
    const { models } = await call("/v1/models", { signal });
    const selected = $("model").value;
    $("model").replaceChildren(...models.map(({ name }) => el("option", { value: name, selected: name === selected }, name)));
    state.models = models;
    renderSettings();
    state.version = (await call("/openapi.json", { signal })).info.version;
  } catch (error) {
    if (signal.aborted) return loading; // the newer one
    if (error.said === undefined) throw error;
    state.failure = error;
  }
  renderStartup();
  renderAbout();
}

function renderStartup() {
  const hadFocus = $("startup-alert").contains(document.activeElement);
  const again = el("button", { type: "button", click: reload }, t("retry"));
  alertIn($("startup-alert"), ...(state.failure ? [el("p", {}, state.failure.said), again] : []));
  if (hadFocus) (state.failure ? again : $(`tab-${TABS.find((name) => !$(name).hidden)}`)).focus();
}

function renderSettings() {
  $("model-field").hidden = state.models.length < 2;
  $("aspect-field").hidden = !model().has_aspect;
  $("settings").hidden = state.models.length < 2 && !model().has_aspect;
  renderAbout();
  many.onModel(model());
}

function renderAbout() {
  if (!model()) return;
  const { name, method, base, precision, adapter_sha256: sha } = model();
  const values = {
    name,
    method: ["label_scoring", "classifier_head"].includes(method) ? t(method) : method,
    base: base ?? t("none"),
    sha: sha?.slice(0, 12) ?? t("none"),
    precision: precision ?? t("none"),
    version: state.version,
  };
  $("about").textContent = t("about", values);
}

// ── status ──────────────────────────────────────────────────────────────────────────────────────────────────────────

async function watchStatus() {
  if (!document.hidden) {
    const before = state.status;
    state.status = await readStatus();
    if (state.status !== before) renderStatus();
    if (state.status === "ready" && before !== null && before !== "ready") reload(); // it may be another one now
  }
  setTimeout(watchStatus, state.status === "ready" ? READY_EVERY : WARMING_EVERY);
}

async function readStatus() {
  try {
    await call("/readyz");
    return "ready";
  } catch (error) {
    return ["not_ready", "draining"].includes(error.code) ? error.code : "unreachable";
  }
}

function renderStatus() {
  const status = $("status");
  status.className = `status ${state.status ?? ""}`;
  status.textContent = state.status ? t(state.status) : "";
}

// ── start ───────────────────────────────────────────────────────────────────────────────────────────────────────────

startSingle(chosen);
const many = startMany(chosen);
$("language").addEventListener("click", switchLanguage);
$("theme").addEventListener("click", switchTheme);
new MutationObserver(renderTheme).observe(document.documentElement, { attributeFilter: ["data-theme"] });
for (const name of TABS) {
  $(`tab-${name}`).addEventListener("click", () => openTab(name));
  $(`tab-${name}`).addEventListener("keydown", onTabKey);
}
$("model").addEventListener("change", renderSettings);
onLanguage(renderWords);
reload();
watchStatus();
