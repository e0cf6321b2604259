// What became of a batch: charts, a table with filter, order and pages, downloads.

import { confidenceChart, labelChart } from "./charts.js";
import { $, colourOf, el, percent } from "./dom.js";
import { onLanguage, t } from "./strings.js";
import { toCsv, toJsonl } from "./tables.js";

const PAGE = 200; // rows drawn at once
const LONGEST = 300; // characters of a text in the table

let job = null; // see many.js
const view = { only: "", sort: "in_order", page: 0 };

export function startResults() {
  onLanguage(() => job && render());
}

export function showResults(newJob) {
  if (job !== newJob) Object.assign(view, { only: "", sort: "in_order", page: 0 });
  job = newJob;
  render();
}

/** `only`: "" for all, "error", or "label:" with the label's index. */
function render() {
  const done = job.items.filter((item) => item.outcome);
  $("results").hidden = done.length === 0;
  if (done.length === 0) return;
  const errors = done.filter((item) => item.outcome.error);
  const judged = done.flatMap(({ outcome }) => (outcome.result ? [outcome.result] : []));
  const labels = [...new Set([...job.model.labels, ...judged.map(({ label }) => label)])]; // a restarted service may have others
  const counts = labels.map((label, i) => ({ label, count: 0, colour: colourOf(job.model.labels, label), value: `label:${i}` }));
  const byLabel = new Map(counts.map((one) => [one.label, one]));
  for (const { label } of judged) byLabel.get(label).count += 1;
  if (errors.length > 0) counts.push({ label: t("errors"), count: errors.length, colour: "rest", value: "error" });
  const confidences = judged.map(({ confidence }) => confidence);
  const focused = document.activeElement?.id;
  $("results").replaceChildren(
    el("h2", {}, t("results")),
    el("div", { class: "pair charts" }, labelChart(counts), confidenceChart(confidences)),
    el("div", { class: "row" }, download("csv", done), download("jsonl", done)),
    ...(done.length < job.items.length ? [el("p", { class: "muted" }, t("partial", { done: done.length }))] : []),
    el("div", { class: "row settings" }, filter(counts, done.length), order()),
    ...pageOf(selected(done, counts)),
  );
  if (focused) focusOn(focused);
}

/** On the control `id`, drawn anew; on the other one of the pager when that is the last page. */
function focusOn(id) {
  const other = { "page-next": "page-previous", "page-previous": "page-next" }[id];
  (other && $(id)?.disabled ? $(other) : $(id))?.focus();
}

function selected(done, counts) {
  const label = counts.find(({ value }) => value === view.only)?.label;
  const isShown = ({ outcome }) => (view.only === "error" ? outcome.error : outcome.result?.label === label);
  const rows = view.only === "" ? [...done] : done.filter(isShown);
  if (view.sort === "in_order") return rows;
  const up = view.sort === "least_sure" ? 1 : -1;
  const sureness = ({ outcome }) => outcome.result?.confidence ?? up * Infinity; // errors last
  return rows.sort((a, b) => up * (sureness(a) - sureness(b)) || a.number - b.number);
}

// ── controls ────────────────────────────────────────────────────────────────────────────────────────────────────────

function filter(counts, all) {
  const options = counts.map(({ label, count, value }) => [value, t("only", { label, count })]);
  return select("only", t("show"), [["", t("all_rows", { count: all })], ...options]);
}

function order() {
  return select("sort", t("sort"), ["in_order", "least_sure", "most_sure"].map((key) => [key, t(key)]));
}

function select(key, title, options) {
  const change = (event) => {
    Object.assign(view, { [key]: event.target.value, page: 0 });
    render();
  };
  const id = `results-${key}`;
  const nodes = options.map(([value, words]) => el("option", { value, selected: value === view[key] }, words));
  return el("div", { class: "field" }, el("label", { for: id }, title), el("select", { id, change }, ...nodes));
}

function download(kind, done) {
  const click = () => {
    const records = done.map(({ row, outcome }) => ({ row, result: outcome.result, error: outcome.error?.() ?? "" }));
    const text = (kind === "csv" ? toCsv : toJsonl)(job.table, job.model.labels, records);
    const type = kind === "csv" ? "text/csv;charset=utf-8" : "application/jsonl;charset=utf-8";
    const address = URL.createObjectURL(new Blob([text], { type }));
    el("a", { href: address, download: `zhsenti.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  };
  return el("button", { type: "button", id: `download-${kind}`, click }, t(`download_${kind}`));
}

// ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────

function pageOf(rows) {
  if (rows.length === 0) return [el("p", { class: "muted" }, t("nothing"))];
  view.page = Math.min(view.page, Math.floor((rows.length - 1) / PAGE));
  const from = PAGE * view.page;
  const shown = rows.slice(from, from + PAGE);
  const head = ["row", "text", "label", "sureness"].map((key) => {
    return el("th", { scope: "col", ...(key === "row" || key === "sureness" ? { class: "num" } : {}) }, t(key));
  });
  const table = el("table", { id: "rows" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...shown.map(line)));
  const turn = (key, by, isLast) => {
    const click = () => {
      view.page += by;
      render();
    };
    return el("button", { type: "button", id: `page-${key}`, disabled: isLast, click }, t(key));
  };
  const place = t("page_of", { from: from + 1, to: from + shown.length, count: rows.length });
  const pager = [turn("previous", -1, from === 0), el("span", { class: "muted" }, place), turn("next", 1, from + PAGE >= rows.length)];
  return [el("div", { class: "wide" }, table), el("div", { class: "row pager" }, ...(rows.length > PAGE ? pager : [pager[1]]))];
}

function line({ number, text, outcome }) {
  const characters = Array.from(text.slice(0, 4 * LONGEST));
  const shown = characters.length > LONGEST ? `${characters.slice(0, LONGEST).join("")}…` : text;
  const cells = [el("td", { class: "num" }, String(number)), el("td", { class: "quote", lang: "zh-CN" }, shown)];
  if (outcome.error) return el("tr", {}, ...cells, el("td", { class: "problem", colspan: "2" }, outcome.error()));
  const { label, confidence, truncated } = outcome.result;
  const swatch = el("span", { class: `swatch ${colourOf(job.model.labels, label)}`, "aria-hidden": "true" });
  const cut = truncated ? el("span", { class: "muted" }, ` ${t("cut")}`) : null;
  return el("tr", {}, ...cells, el("td", {}, swatch, label, cut), el("td", { class: "num" }, percent(confidence)));
}
