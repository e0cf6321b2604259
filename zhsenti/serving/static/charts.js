// Two small charts of a batch, as SVG with the same numbers in words.

import { el, percent, svg } from "./dom.js";
import { t } from "./strings.js";

const MOST_LABELS = 10; // bars; the other labels go together
const WIDTH = 320;

/** counts: {label, count, colour} in label order, then maybe errors. */
export function labelChart(counts) {
  const total = counts.reduce((sum, one) => sum + one.count, 0);
  const shown = counts.length > MOST_LABELS ? together(counts) : counts;
  const step = 40;
  const bars = shown.flatMap(({ label, count, colour }, i) => [
    svg("text", { x: 0, y: step * i + 14 }, shortened(label)),
    svg("text", { x: WIDTH, y: step * i + 14, class: "end" }, `${count} · ${percent(count / total)}`),
    svg("rect", { x: 0, y: step * i + 20, width: WIDTH, height: 10, rx: 3, class: "rail" }),
    svg("rect", { x: 0, y: step * i + 20, width: (WIDTH * count) / total, height: 10, rx: 3, class: colour }),
  ]);
  const words = shown.map(({ label, count }) => t("count_of", { label, count, share: percent(count / total) }));
  return figure("by_label", step * shown.length, bars, words);
}

function together(counts) {
  const ranked = [...counts].sort((a, b) => b.count - a.count);
  const rest = ranked.slice(MOST_LABELS - 1);
  const count = rest.reduce((sum, one) => sum + one.count, 0);
  return [...ranked.slice(0, MOST_LABELS - 1), { label: t("others", { count: rest.length }), count, colour: "rest" }];
}

function shortened(label) {
  const characters = Array.from(label);
  return characters.length > 12 ? `${characters.slice(0, 11).join("")}…` : label;
}

/** Ten bins of confidences. */
export function confidenceChart(confidences) {
  const bins = Array(10).fill(0);
  for (const one of confidences) bins[Math.min(9, Math.floor(10 * one))] += 1;
  const most = Math.max(...bins, 1);
  const [step, top, height] = [WIDTH / 10, 20, 110];
  const bars = bins.flatMap((count, i) => {
    const tall = (height * count) / most;
    const x = step * i + 2;
    return [
      svg("rect", { x, y: top + height - tall, width: step - 4, height: tall, rx: 2, class: "c1" }),
      ...(count > 0 ? [svg("text", { x: step * (i + 0.5), y: top + height - tall - 5, class: "middle" }, String(count))] : []),
    ];
  });
  const axis = [0, 5, 10].map((i) => {
    const side = i === 0 ? "" : i === 10 ? "end" : "middle";
    return svg("text", { x: step * i, y: top + height + 18, class: side }, `${10 * i}%`);
  });
  const line = svg("line", { x1: 0, x2: WIDTH, y1: top + height, y2: top + height, class: "axis" });
  const words = bins.map((count, i) => t("bin_of", { from: 10 * i, to: 10 * i + 10, count }));
  return figure("by_confidence", top + height + 24, [...bars, line, ...axis], words);
}

function figure(key, height, drawn, words) {
  const said = { role: "img", "aria-label": words.join(t("join")) };
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, ...said }, ...drawn);
  return el("figure", { id: key.replace("_", "-") }, el("figcaption", {}, t(key)), picture);
}
