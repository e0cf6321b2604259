// Files in and out: text decoded, CSV/TSV/TXT/JSONL read as rows, results written so that spreadsheets do not run them.

import { Problem } from "./strings.js";

export const MAX_BYTES = 20 * 1024 * 1024;
export const MAX_ROWS = 50_000;
const TEXT_NAMES = "text text_a review reviews sentence content comment comments body 文本 评论 内容 评价 正文 句子 评论内容 评价内容".split(" ");
const ASPECT_NAMES = "aspect target_aspect 方面 维度".split(" ");
const ADDED = ["label", "confidence", "truncated", "error"];

/** A file as a table: names of columns, rows {cells, problem}. `hasHeader`: null where the question does not arise. */
export async function readFile(file, hasHeader = true) {
  const kind = file.name.toLowerCase().split(".").pop();
  if (!["csv", "tsv", "txt", "jsonl"].includes(kind)) throw new Problem("file_type", { name: file.name });
  if (file.size > MAX_BYTES) throw new Problem("file_size", { name: file.name });
  let bytes;
  try {
    bytes = await file.arrayBuffer();
  } catch {
    throw new Problem("file_unreadable", { name: file.name });
  }
  const text = decode(bytes, file.name);
  const table = kind === "txt" ? lines(text) : kind === "jsonl" ? readJsonl(text) : readDelimited(text, kind, hasHeader);
  return checked({ name: file.name, ...table });
}

export function readPasted(text, name) {
  return checked({ name, ...lines(text) });
}

function checked(table) {
  const values = { name: table.name, count: table.rows.length.toLocaleString("en") };
  if (table.rows.length === 0) throw new Problem("file_empty", values);
  if (table.rows.length > MAX_ROWS) throw new Problem("file_rows", values);
  return table;
}

function decode(bytes, name) {
  const [first, second] = new Uint8Array(bytes);
  const marked = first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : null;
  for (const encoding of marked ? [marked] : ["utf-8", "gb18030"]) {
    try {
      return new TextDecoder(encoding, { fatal: true }).decode(bytes);
    } catch {
      // not this one
    }
  }
  throw new Problem("file_encoding", { name });
}

function lines(text) {
  const rows = text.split(/\r\n|\n|\r/).filter((line) => line.trim() !== "");
  return { names: ["text"], hasHeader: null, rows: rows.map((line) => ({ cells: [line], problem: null })) };
}

function readDelimited(text, kind, hasHeader) {
  const found = [...(kind === "tsv" ? tsvRecords(text) : csvRecords(text))];
  const width = Math.max(1, found.find((one) => !one.problem)?.cells.length ?? 1);
  const head = hasHeader ? found.shift() : null;
  const names = head && !head.problem ? head.cells.map((name) => name.trim()) : Array(width).fill("");
  for (const row of found) {
    if (!row.problem && row.cells.length !== names.length) {
      row.problem = new Problem("bad_cells", { found: row.cells.length, expected: names.length });
    }
  }
  return { names, hasHeader, rows: found };
}

/** One line, one record; quotes are literal: tab-separated reviews hold them unescaped. */
function* tsvRecords(text) {
  for (const line of text.split(/\r\n|\n|\r/)) if (line !== "") yield { cells: line.split("\t"), problem: null };
}

/** RFC 4180, with any line end. A record that cannot be read costs its first line; reading goes on after it. */
export function* csvRecords(text) {
  for (let at = 0; at < text.length; ) {
    const record = csvRecord(text, at);
    if (record) {
      at = record.end;
      if (record.cells.length > 1 || record.cells[0] !== "") yield { cells: record.cells, problem: null };
    } else {
      const end = plainEnd(text, at, /[\r\n]/g);
      yield { cells: [text.slice(at, end)], problem: new Problem("bad_quotes") };
      at = afterLineEnd(text, end);
    }
  }
}

function csvRecord(text, start) {
  const cells = [];
  for (let at = start; ; at += 1) {
    let end;
    if (text[at] === '"') {
      end = closingQuote(text, at + 1) + 1;
      if (end === 0 || (end < text.length && !",\r\n".includes(text[end]))) return null;
      cells.push(text.slice(at + 1, end - 1).replaceAll('""', '"'));
    } else {
      end = plainEnd(text, at, /[,\r\n]/g);
      cells.push(text.slice(at, end));
    }
    if (text[end] !== ",") return { cells, end: afterLineEnd(text, end) };
    at = end;
  }
}

function closingQuote(text, from) {
  let at = text.indexOf('"', from);
  while (at >= 0 && text[at + 1] === '"') at = text.indexOf('"', at + 2);
  return at;
}

function plainEnd(text, from, mark) {
  mark.lastIndex = from;
  return mark.exec(text)?.index ?? text.length;
}

function afterLineEnd(text, at) {
  return at + (text.startsWith("\r\n", at) ? 2 : 1);
}

function readJsonl(text) {
  const names = new Map(); // name -> column
  const rows = text.split(/\r\n|\n|\r/).filter((line) => line.trim() !== "").map((line) => {
    const cells = [];
    let value;
    try {
      value = JSON.parse(line, exactNumber);
    } catch {
      return { cells, raw: line, problem: new Problem("bad_json") };
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      return { cells, raw: line, problem: new Problem("not_object") };
    }
    for (const [name, cell] of Object.entries(value)) {
      if (!names.has(name)) names.set(name, names.size);
      cells[names.get(name)] = cell;
    }
    return { cells, problem: null };
  });
  return { names: [...names.keys()], hasHeader: null, rows };
}

/** Whole numbers that JavaScript would round (ids, mostly) stay as they were written. */
function exactNumber(_, value, context) {
  const isRounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  return isRounded && context?.source ? context.source : value;
}

/** Index of the column with a common name for texts, or -1. */
export const textColumn = (names) => common(names, TEXT_NAMES);
export const aspectColumn = (names) => common(names, ASPECT_NAMES);

function common(names, known) {
  const folded = names.map((name) => name.toLowerCase());
  return known.map((name) => folded.indexOf(name)).find((index) => index >= 0) ?? -1;
}

/** {text} of a cell, or {problem} when it is no text. */
export function cellText(cell) {
  if (typeof cell === "object" && cell !== null) return { problem: new Problem("not_text") };
  return { text: cell === undefined || cell === null ? "" : String(cell) };
}

// ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Rows {row, result, error} as CSV: the table's columns, then label, confidence, score_<label>…, truncated, error. */
export function toCsv(table, labels, done) {
  const { names, added } = outputNames(table, labels);
  const records = [[...names, ...added]];
  for (const { row, result, error } of done) {
    const cells = names.map((_, column) => row.cells[column] ?? (column === 0 ? row.raw : null) ?? "");
    records.push([...cells, ...newCells(labels, result, error)]);
  }
  return "\ufeff" + records.map((cells) => cells.map(csvCell).join(",") + "\r\n").join("");
}

export function toJsonl(table, labels, done) {
  const { names, added } = outputNames(table, labels);
  const lines = done.map(({ row, result, error }) => {
    const old = row.problem && row.raw !== undefined ? [["raw", row.raw]] : names.map((name, i) => [name, row.cells[i]]);
    const values = newCells(labels, result, error).map((cell) => (cell === "" ? null : cell));
    return JSON.stringify(Object.fromEntries([...old, ...added.map((name, i) => [name, values[i]])])) + "\n";
  });
  return lines.join("");
}

function newCells(labels, result, error) {
  if (!result) return ["", "", ...labels.map(() => ""), "", error];
  return [result.label, result.confidence, ...labels.map((label) => result.scores[label] ?? ""), result.truncated, ""];
}

/** What the table already calls label (say) is not overwritten: the new column is predicted_label, as in zhsenti predict. */
function outputNames(table, labels) {
  const names = [];
  table.names.forEach((name, i) => names.push(unused(name || `column_${i + 1}`, names, (n) => `${n}_${i + 1}`)));
  const [label, confidence, truncated, error] = ADDED;
  const added = [label, confidence, ...labels.map((one) => `score_${one}`), truncated, error];
  return { names, added: added.map((name) => unused(name, names, (n) => `predicted_${n}`)) };
}

function unused(name, taken, change) {
  let free = name;
  while (taken.includes(free)) free = change(free);
  return free;
}

function csvCell(value) {
  const text = typeof value === "string" ? spreadsheetSafe(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
  return /[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Text that a spreadsheet would run gets a leading '. They look past white space, and read full-width ＝ as =. */
export function spreadsheetSafe(text) {
  const isNumber = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text);
  return !isNumber && /^[\s\p{Cc}\p{Cf}]*[=+\-@\t\r＝＋－＠﹦﹢﹣﹫]/u.test(text) ? `'${text}` : text;
}
