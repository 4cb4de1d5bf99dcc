// Small steps with the page's elements. Nothing is written that is already so: most of what is drawn
// twice a second stays as it was.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null) element.removeAttribute(key);
    else if (element.getAttribute(key) !== String(value)) element.setAttribute(key, value);
  }
}

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** Keeps one child of `parent` for each item, in order: made by `make`, brought up to date by `update`. */
export class Keyed {
  #parent;
  #make;
  #update;
  #children = new Map();

  constructor(parent, make, update) {
    this.#parent = parent;
    this.#make = make;
    this.#update = update;
  }

  draw(items, key) {
    const wanted = new Map(items.map((item) => [key(item), item]));
    for (const [name, child] of this.#children) {
      if (wanted.has(name)) continue;
      child.remove();
      this.#children.delete(name);
    }
    let next = this.#parent.firstElementChild;
    for (const [name, item] of wanted) {
      let child = this.#children.get(name);
      if (!child) {
        child = this.#make(item);
        this.#children.set(name, child);
      }
      if (child === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(child, next);
      this.#update(child, item);
    }
  }

  get(name) {
    return this.#children.get(name);
  }
}

/** A list of terms and what they are, as `<dl>` shows it. */
export function facts(list) {
  return new Keyed(list, () => html("div", {}, html("dt"), html("dd")), (element, [term, text]) => {
    write(element.firstElementChild, term);
    write(element.lastElementChild, text);
  });
}
