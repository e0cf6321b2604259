// Elements built from data: text always goes in as text, never as markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `data`, `aria`…: attributes; functions: listeners) and children (nodes, strings). */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (typeof value === "boolean") node.toggleAttribute(key, value);
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Show `children` in the alert region, or hide it when there are none. */
export function alertIn(node, ...children) {
  node.replaceChildren(...children);
  node.hidden = children.length === 0;
}

/** A storage that may be switched off: then nothing is remembered. */
export function recall(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

export function remember(storage, key, value) {
  try {
    window[storage].setItem(key, value);
  } catch {
    // private mode: the choice lasts as long as the page
  }
}

/** The class that colours `label`; grey where it is none of the model's `labels`. */
export function colourOf(labels, label) {
  const index = labels.indexOf(label);
  return index < 0 ? "rest" : `c${index % 8}`;
}

/** "87.3%", never "100.0%" for what is not. */
export function percent(share) {
  const shown = (100 * share).toFixed(1);
  if (shown === "100.0" && share < 1) return ">99.9%";
  if (shown === "0.0" && share > 0) return "<0.1%";
  return `${shown}%`;
}
