// Elements made by calls alone: what strangers say is text and never markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Writes only what changed: a screen reader says a text again that is set again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
