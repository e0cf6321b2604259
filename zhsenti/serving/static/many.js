// Many reviews: pasted lines or a file, judged in small requests with progress; what is done stays when it is stopped.

import { unlessAborted } from "./api.js";
import { judgeAll } from "./batch.js";
import { $, alertIn, el } from "./dom.js";
import { showResults, startResults } from "./results.js";
import { Problem, onLanguage, t } from "./strings.js";
import { aspectColumn, cellText, readFile, readPasted, textColumn } from "./tables.js";

const DRAW_EVERY = 400; // ms, while results come in
const TICK = 1000; // ms

let chosen;
let source = null; // of a chosen file: {file, table, text, aspect}: columns by index, -1 for none
let reading = null; // the promise of the source of the file chosen last, while it is read
let preparing = null; // AbortController of a job whose model or file is waited for
// {model, table, items, running (AbortController or null), isCancelled, error, began, before};
// an item: {number, row, text, aspect, outcome}
let job = null;
let problem = null; // what is wrong with the input
let needsAspect = false;
let busyUntil = 0;
let drawn = 0; // when
let nextDraw = null; // a timer

/** chosenNow(signal) -> promise of {model, aspect}. Returns {onModel}, to be called with the model when it was chosen. */
export function startMany(chosenNow) {
  chosen = chosenNow;
  startResults();
  $("start").addEventListener("click", start);
  $("many-cancel").addEventListener("click", cancel);
  $("go-on").addEventListener("click", go);
  $("many").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) start();
  });
  // Wherever the focus is: it leaves the start button when that is switched off.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing && !$("many").hidden) cancel();
  });
  window.addEventListener("beforeunload", (event) => {
    if (job?.running) event.preventDefault();
  });
  $("file").addEventListener("change", () => take($("file").files[0]));
  document.addEventListener("dragover", onDragOver);
  document.addEventListener("drop", onDrop);
  $("many").addEventListener("dragleave", () => $("many").classList.remove("over"));
  onLanguage(render);
  const onModel = (model) => {
    needsAspect = model.has_aspect;
    renderOptions();
  };
  return { onModel };
}

// ── input ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Files are taken on this tab; elsewhere the browser is kept from opening one in place of the page. */
function onDragOver(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  if ($("many").contains(event.target)) $("many").classList.add("over");
  else event.dataTransfer.dropEffect = "none";
}

function onDrop(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  $("many").classList.remove("over");
  const { files } = event.dataTransfer;
  if (files.length === 0 || !$("many").contains(event.target)) return;
  $("file").files = files; // says the same as the page
  take(files[0]);
}

/** Make `file` the source. The one taken last counts, however long the others take. `old`: its columns are kept. */
async function take(file, hasHeader = true, old = null) {
  const mine = (reading = file ? readSource(file, hasHeader, old) : Promise.resolve(null));
  let found = null;
  let wrong = null;
  try {
    found = await mine;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    wrong = error;
  } finally {
    if (reading === mine) {
      [source, problem, reading] = [found, wrong, null];
      if (!source) $("file").value = "";
      render();
    }
  }
}

async function readSource(file, hasHeader, old) {
  const table = await readFile(file, hasHeader);
  const count = table.names.length;
  const only = count === 1 ? 0 : -1;
  const text = old && old.text >= 0 && old.text < count ? old.text : Math.max(textColumn(table.names), only);
  const aspect = old && old.aspect < count ? old.aspect : aspectColumn(table.names);
  return { file, table, text, aspect };
}

function forget() {
  source = problem = reading = null;
  $("file").value = "";
  render();
  $("file").focus();
}

function renderFileName() {
  const words = source ? t("rows_found", { name: source.table.name, count: source.table.rows.length.toLocaleString("en") }) : t("file_none");
  $("file-name").classList.toggle("muted", !source);
  if ($("file-name").textContent !== words) $("file-name").textContent = words; // is announced
}

function renderOptions() {
  renderFileName();
  const options = $("file-options");
  options.hidden = !source;
  if (!source) return options.replaceChildren();
  const { file, table } = source;
  const focused = document.activeElement?.id;
  const names = table.names.map((name, i) => [String(i), name || t("column", { number: i + 1 })]);
  const first = table.rows.find((row) => !row.problem);
  const sample = source.text >= 0 && first ? (cellText(first.cells[source.text]).text ?? "").slice(0, 60) : "";
  const header = { type: "checkbox", checked: table.hasHeader, change: (event) => take(file, event.target.checked, source) };
  options.replaceChildren(
    columnPicker("text", names, source.text < 0 ? [["-1", "—"]] : []),
    ...(needsAspect ? [columnPicker("aspect", names, [["-1", t("same_aspect")]])] : []),
    ...(table.hasHeader === null ? [] : [el("label", { class: "check" }, el("input", { id: "has-header", ...header }), ` ${t("has_header")}`)]),
    el("button", { type: "button", id: "forget-file", click: forget }, t("forget_file")),
    ...(sample ? [el("p", { class: "muted sample" }, t("first_row", { text: sample }))] : []),
  );
  if (focused) $(focused)?.focus();
}

function columnPicker(key, names, before) {
  const id = `${key}-column`;
  const change = (event) => {
    source[key] = Number(event.target.value);
    renderOptions();
  };
  const options = [...before, ...names].map(([value, name]) => {
    return el("option", { value, selected: value === String(source[key]) }, name);
  });
  return el("div", { class: "field" }, el("label", { for: id }, t(`${key}_column`)), el("select", { id, change }, ...options));
}

/** A new job of what was pasted or chosen. Throws Problem, ServiceError, AbortError. */
async function newJob(signal) {
  const { model, aspect } = await chosen(signal);
  while (reading) await unlessAborted(reading.catch(() => null), signal);
  if (problem) throw problem; // of the file
  if (!source && $("lines").value.trim() === "") throw new Problem("lines_missing");
  const table = source ? source.table : readPasted($("lines").value, t("pasted"));
  const column = source ? source.text : 0;
  if (column < 0) throw new Problem("column_missing");
  const ownAspect = model.has_aspect && source && source.aspect >= 0;
  if (aspect === "" && !ownAspect) throw new Problem("aspect_missing");
  const items = table.rows.map((row, i) => {
    const found = row.problem ? { problem: row.problem } : cellText(row.cells[column]);
    const about = ownAspect && !row.problem ? cellText(row.cells[source.aspect]).text ?? "" : aspect;
    const outcome = found.problem ? { error: () => found.problem.said } : null;
    const text = found.text ?? (row.problem ? (row.raw ?? row.cells.join(" ")) : JSON.stringify(row.cells[column]));
    return { number: i + 1, row, text, aspect: about, outcome };
  });
  return { model, table, items, running: null, isCancelled: false, error: null, began: 0, before: 0 };
}

// ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────────

async function start() {
  if (preparing || job?.running) return;
  preparing = new AbortController();
  problem = null;
  say("");
  render();
  let made = null;
  try {
    made = await newJob(preparing.signal);
  } catch (error) {
    if (error.name === "AbortError") say(t("cancelled"));
    else if (error.said === undefined) throw error;
    else problem = error;
  } finally {
    preparing = null;
    if (!made) render();
  }
  if (!made) return;
  job = made;
  go();
}

/** Judge what of the job is not judged yet. */
async function go() {
  if (preparing || job.running) return;
  problem = null;
  const mine = job;
  const controller = (mine.running = new AbortController());
  const left = mine.items.filter((item) => !item.outcome);
  Object.assign(mine, { isCancelled: false, error: null, began: performance.now(), before: mine.items.length - left.length });
  say(t("news_started", { total: left.length }));
  const onSettled = (item, outcome) => {
    item.outcome = outcome;
    busyUntil = 0;
    drawSoon();
  };
  const onBusy = (seconds) => {
    busyUntil = performance.now() + 1000 * seconds;
    renderProgress();
  };
  const ticking = setInterval(renderProgress, TICK); // the time left and the wait, also while nothing comes in
  try {
    render();
    await judgeAll(left, mine.model.name, { controller, onSettled, onBusy });
    say(t("news_done", { done: mine.items.length, errors: mine.items.filter(({ outcome }) => outcome.error).length }));
  } catch (error) {
    if (error.name === "AbortError") {
      mine.isCancelled = true;
      say(t("news_cancelled", { done: countDone(mine), total: mine.items.length }));
    } else if (error.said === undefined) throw error;
    else mine.error = error;
  } finally {
    clearInterval(ticking);
    mine.running = null;
    render();
  }
}

function cancel() {
  preparing?.abort();
  job?.running?.abort();
}

const countDone = ({ items }) => items.reduce((sum, { outcome }) => sum + (outcome ? 1 : 0), 0);

// ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────────────

function say(words) {
  $("many-news").textContent = words;
}

/** Once for all that settles together, and at most every DRAW_EVERY; the last of them is never left out. */
function drawSoon() {
  nextDraw ??= setTimeout(draw, Math.max(0, drawn + DRAW_EVERY - performance.now()));
}

function draw() {
  nextDraw = null;
  drawn = performance.now();
  renderProgress();
  if (!$("results").matches(":hover, :focus-within")) showResults(job); // nothing moves under a hand that is about to click
}

function render() {
  clearTimeout(nextDraw);
  nextDraw = null;
  const isRunning = Boolean(preparing || job?.running);
  const focused = document.activeElement;
  const wasAtCancel = focused === $("many-cancel");
  const wasAtGoOn = focused === $("go-on") || $("many-alert").contains(focused);
  $("start").disabled = isRunning;
  $("many-cancel").hidden = !isRunning;
  $("go-on").hidden = isRunning || !job?.isCancelled || countDone(job) === job.items.length;
  $("results").setAttribute("aria-busy", String(isRunning));
  renderOptions();
  renderAlert(isRunning);
  renderProgress();
  if (job) showResults(job);
  // What had the focus is hidden now.
  if (wasAtCancel && !isRunning) $("start").focus();
  if (wasAtGoOn && isRunning) $("many-cancel").focus();
}

function renderAlert(isRunning) {
  const error = problem ?? job?.error;
  if (!error) return alertIn($("many-alert"));
  const again = el("button", { type: "button", click: go }, t("go_on"));
  alertIn($("many-alert"), el("p", {}, error.said), ...(problem || isRunning ? [] : [again]));
}

function renderProgress() {
  $("progress").hidden = !job;
  if (!job) return;
  const [done, total] = [countDone(job), job.items.length];
  $("bar").value = done / total;
  const seconds = (performance.now() - job.began) / 1000;
  const rate = (done - job.before) / seconds;
  const isMoving = job.running && rate > 0;
  const values = { done, total, rate: rate.toFixed(1), left: isMoving ? duration((total - done) / rate) : "" };
  const wait = Math.ceil((busyUntil - performance.now()) / 1000);
  const busy = job.running && wait > 0 ? ` ${t("busy", { seconds: wait })}` : "";
  const state = isMoving ? "text" : job.isCancelled ? "cancelled" : "stopped";
  $("progress-text").textContent = t(`progress_${state}`, values) + busy;
}

function duration(seconds) {
  if (seconds < 90) return t("seconds", { n: Math.ceil(seconds) });
  return seconds < 5400 ? t("minutes", { n: Math.round(seconds / 60) }) : t("hours", { n: (seconds / 3600).toFixed(1) });
}
