// Many reviews: pasted lines or a file, judged in small requests with progress; what is done stays when it is stopped.

import { judgeAll } from "./batch.js";
import { $, alertIn, el } from "./dom.js";
import { showResults, startResults } from "./results.js";
import { Problem, onLanguage, t } from "./strings.js";
import { aspectColumn, cellText, readFile, readPasted, textColumn } from "./tables.js";

const DRAW_EVERY = 400; // ms, while results come in
const TICK = 1000; // ms

let chosen;
let source = null; // of a chosen file: {file, table, text, aspect}: columns by index, -1 for none
// {model, table, items, running (AbortController or null), isCancelled, error, began, before};
// an item: {number, row, text, aspect, outcome}
let job = null;
let problem = null; // what is wrong with the input
let needsAspect = false;
let busyUntil = 0;
let drawn = 0; // when
let nextDraw = null; // a timer

/** chosenNow() -> promise of {model, aspect}. Returns {onModel}, to be called with the model when it was chosen. */
export function startMany(chosenNow) {
  chosen = chosenNow;
  startResults();
  $("start").addEventListener("click", start);
  $("many-cancel").addEventListener("click", cancel);
  $("many").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) start();
  });
  // Wherever the focus is: it leaves the start button when that is switched off.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("many").hidden) cancel();
  });
  $("file").addEventListener("change", () => take($("file").files[0]));
  const drop = $("many");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const { files } = event.dataTransfer;
    if (files.length === 0) return;
    $("file").files = files; // says the same as the page
    take(files[0]);
  });
  onLanguage(render);
  const onModel = (model) => {
    needsAspect = model.has_aspect;
    renderOptions();
  };
  return { onModel };
}

// ── input ───────────────────────────────────────────────────────────────────────────────────────────────────────────

async function take(file, hasHeader = true) {
  source = problem = null;
  try {
    if (!file) return;
    const table = await readFile(file, hasHeader);
    const only = table.names.length === 1 ? 0 : -1;
    const text = Math.max(textColumn(table.names), only);
    source = { file, table, text, aspect: aspectColumn(table.names) };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
  } finally {
    if (!source) $("file").value = "";
    render();
  }
}

function forget() {
  source = problem = null;
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
  const header = { type: "checkbox", checked: table.hasHeader, change: (event) => take(file, event.target.checked) };
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

/** A new job of what was pasted or chosen. Throws Problem. */
async function newJob() {
  const { model, aspect } = await chosen();
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
    return { number: i + 1, row, text: found.text ?? row.raw ?? row.cells.map(String).join(" "), aspect: about, outcome };
  });
  return { model, table, items, running: null, isCancelled: false, error: null, began: 0, before: 0 };
}

// ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────────

async function start() {
  if (job?.running) return;
  problem = null;
  try {
    const made = await newJob();
    if (job?.running) return; // started twice
    job = made;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
    return render();
  }
  go();
}

/** Judge what of the job is not judged yet. */
async function go() {
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
    const wasAtCancel = document.activeElement === $("many-cancel");
    render();
    if (wasAtCancel) $("start").focus(); // the other one is hidden now
  }
}

function cancel() {
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
  const isRunning = Boolean(job?.running);
  $("start").disabled = isRunning;
  $("many-cancel").hidden = !isRunning;
  $("many").setAttribute("aria-busy", String(isRunning));
  renderOptions();
  renderAlert(isRunning);
  renderProgress();
  if (job) showResults(job);
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
