// One review: the label first, then, in a second and slower request, what it hangs on.

import { call } from "./api.js";
import { $, alertIn, colourOf, el, percent } from "./dom.js";
import { Problem, onLanguage, t } from "./strings.js";

const EXAMPLES = [
  "房间干净，服务热情，早餐也丰富，下次还会住。",
  "用了两天就坏了，客服一直推脱，非常失望。",
  "位置很好，但是隔音太差，晚上根本睡不着。",
];
const MARKED = 0.08; // of the largest effect: less is not worth a mark
const STRONGEST = 8; // rows of a table
const ALL_WORDS = 48; // the service tries no more words than these: then it did not try all

let chosen;
let running = null; // AbortController of the newest question
// asked: {text, model, aspect};  stage: "", "label", "reasons", "done", "cancelled"
let state = { asked: null, result: null, explanation: null, error: null, stage: "" };

/** chosenNow(signal) -> promise of {model, aspect}. */
export function startSingle(chosenNow) {
  chosen = chosenNow;
  $("judge").addEventListener("click", judge);
  $("single-cancel").addEventListener("click", cancel);
  $("single").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) judge();
  });
  // Wherever the focus is: it is elsewhere when the key is asked for.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing && !$("single").hidden) cancel();
  });
  const fillIn = (text) => () => {
    $("text").value = text;
    $("text").focus();
  };
  const buttons = EXAMPLES.map((text) => {
    return el("button", { type: "button", class: "chip", lang: "zh-CN", click: fillIn(text) }, text);
  });
  $("examples").replaceChildren(...buttons);
  onLanguage(render);
}

async function judge() {
  running?.abort();
  const mine = (running = new AbortController());
  const show = (change) => {
    if (running !== mine) return;
    Object.assign(state, change);
    render();
  };
  state = { asked: null, result: null, explanation: null, error: null, stage: "" };
  try {
    show({ stage: "label" });
    const asked = await question(mine.signal);
    mine.signal.throwIfAborted();
    show({ asked });
    const { text, aspect, model } = asked;
    const body = { text, model: model.name, ...(aspect === null ? {} : { aspect }) };
    const { results } = await call("/v1/predict", { body, signal: mine.signal });
    show({ result: results[0], stage: "done" });
    if (!$("explain").checked) return;
    show({ stage: "reasons" });
    const explained = await call("/v1/predict", { body: { ...body, explain: true }, signal: mine.signal });
    show({ explanation: explained.results[0].explanation, stage: "done" });
  } catch (error) {
    if (error.name === "AbortError") show({ stage: "cancelled" });
    else if (error.said === undefined) throw error;
    else show({ error, stage: "done" });
  }
}

async function question(signal) {
  const text = $("text").value;
  if (text === "") throw new Problem("text_missing");
  const { model, aspect } = await chosen(signal);
  if (aspect === "") throw new Problem("aspect_missing");
  return { text, model, aspect };
}

function cancel() {
  running?.abort();
}

// ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────────────

function render() {
  const { asked, result, explanation, error, stage } = state;
  const isBusy = stage === "label" || stage === "reasons";
  const focused = document.activeElement;
  const losesFocus = (focused === $("single-cancel") && !isBusy) || $("single-alert").contains(focused);
  $("single-cancel").hidden = !isBusy;
  $("answer").setAttribute("aria-busy", String(isBusy));
  renderAlert(error);
  const parts = [];
  if (stage === "label") parts.push(el("p", { class: "muted" }, t("working")));
  if (result) parts.push(...verdict(asked.model, result));
  if (stage === "reasons") parts.push(el("p", { class: "muted" }, t("explaining")));
  if (stage === "cancelled") parts.push(el("p", { class: "muted" }, t("cancelled")));
  $("answer").replaceChildren(...parts);
  say(result && stage !== "cancelled" ? announced(result, explanation) : (parts[0]?.textContent ?? ""));
  $("explanation").replaceChildren(...(explanation ? reasons(asked.text, result.label, explanation) : []));
  if (losesFocus) $("judge").focus();
}

function renderAlert(error) {
  if (!error) return alertIn($("single-alert"));
  const mayPass = error.key === "network" || [429, 500, 503, 504].includes(error.status);
  const again = el("button", { type: "button", click: judge }, t("retry"));
  alertIn($("single-alert"), el("p", {}, error.said), ...(mayPass ? [again] : []));
}

/** To those who listen: only what is new. */
function say(words) {
  if ($("single-news").textContent !== words) $("single-news").textContent = words;
}

function announced({ label, confidence }, explanation) {
  const parts = [t("verdict") + label, `${t("confidence")} ${percent(confidence)}`];
  return [...parts, ...(explanation ? [t("because_found")] : [])].join(t("join"));
}

function verdict(model, result) {
  const share = percent(result.confidence);
  const temperature = model.temperature.toFixed(2);
  const isCalibrated = model.temperature !== 1;
  const note = isCalibrated ? t("calibrated", { temperature, share }) : t("uncalibrated");
  const bars = Object.entries(result.scores).map(([label, score]) => {
    const bar = el("span", { class: `fill ${colourOf(model.labels, label)}` });
    bar.style.width = `${100 * score}%`;
    return el("li", {}, el("span", { class: "name" }, label), el("span", { class: "bar" }, bar), el("span", { class: "num" }, percent(score)));
  });
  return [
    el("h2", {}, t("verdict"), el("strong", { id: "label" }, result.label)),
    el("p", {}, `${t("confidence")} `, el("strong", { id: "confidence" }, share), el("br"), el("span", { class: "muted" }, note)),
    result.truncated ? el("p", { class: "note" }, t("truncated", { tokens: result.tokens, max: model.max_length })) : null,
    el("h3", { id: "scores-title" }, t("scores")),
    el("ul", { class: "bars", "aria-labelledby": "scores-title" }, ...bars),
  ].filter((part) => part !== null);
}

function reasons(text, label, { words, clauses }) {
  if (words.length + clauses.length === 0) return [el("h3", {}, t("because")), el("p", {}, t("no_units"))];
  return [
    el("h3", {}, t("because")),
    el("p", { class: "muted" }, t("because_how", { label })),
    marked(text, words),
    el("p", { class: "legend" }, el("mark", { class: "for s2" }, t("legend_for", { label })), " ", el("mark", { class: "against s2" }, t("legend_against", { label }))),
    ...(words.length >= ALL_WORDS ? [el("p", { class: "muted" }, t("some_words"))] : []),
    el("div", { class: "pair" }, strongest("words", words), strongest("clauses", clauses)),
  ];
}

/** The text with its words marked. Places count characters as Python does (code points), not as JavaScript. */
function marked(text, words) {
  const characters = Array.from(text);
  const largest = Math.max(...words.map(({ effect }) => Math.abs(effect)), 1e-9);
  const parts = [];
  let at = 0;
  for (const { start, end, effect } of words) {
    const strength = Math.abs(effect) / largest;
    if (strength < MARKED) continue;
    const step = strength > 0.66 ? 3 : strength > 0.33 ? 2 : 1;
    const side = effect > 0 ? "for" : "against";
    const title = `${t(side)} ${signed(effect)}`;
    parts.push(characters.slice(at, start).join(""));
    parts.push(el("mark", { class: `${side} s${step}`, title }, characters.slice(start, end).join("")));
    at = end;
  }
  return el("p", { id: "marked", class: "quote", lang: "zh-CN" }, ...parts, characters.slice(at).join(""));
}

function strongest(key, units) {
  const ranked = [...units].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
  const shown = ranked.filter(({ effect }) => signed(effect).slice(1) !== "0.00").slice(0, STRONGEST);
  const rows = shown.map(({ text, effect }) => {
    const side = effect > 0 ? "for" : "against";
    return el("tr", {}, el("td", { lang: "zh-CN" }, text.trim()), el("td", { class: "num" }, `${t(side)} ${signed(effect)}`));
  });
  const head = el("tr", {}, el("th", { scope: "col" }, t(key)), el("th", { scope: "col", class: "num" }, t("effect")));
  return el("table", { id: key }, el("thead", {}, head), el("tbody", {}, ...rows));
}

function signed(effect) {
  return `${effect < 0 ? "−" : "+"}${Math.abs(effect).toFixed(2)}`;
}
