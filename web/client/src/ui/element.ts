/** Elements made by calls alone: strict pages take neither markup nor style attributes. */

const SVG = "http://www.w3.org/2000/svg";

export function element<Name extends keyof HTMLElementTagNameMap>(name: Name, className: string, ...children: (Node | string)[]): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  if (className) {
    made.className = className;
    // So that a page can style it: `[data-cursormesh]::part(label) { … }`.
    made.setAttribute("part", className);
  }
  made.append(...children);
  return made;
}

export function svg(name: string, attributes: Readonly<Record<string, string>>, ...children: Node[]): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Writes only what changed, so that a frame costs nothing where nothing did. */
export function setText(node: HTMLElement, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

const sheets = new Map<string, CSSStyleSheet>();

/**
 * A host in the page whose inside no style of the page reaches. Its own styles come as constructed
 * sheets, which a content security policy has no say in.
 */
export function shadow(kind: string, css: string): { host: HTMLElement; root: ShadowRoot } {
  const host = document.createElement("div");
  host.setAttribute("data-cursormesh", kind);
  const root = host.attachShadow({ mode: "open" });
  try {
    let sheet = sheets.get(css);
    if (!sheet) {
      sheets.set(css, (sheet = new CSSStyleSheet()));
      sheet.replaceSync(css);
    }
    root.adoptedStyleSheets = [sheet];
  } catch {
    // A browser before 2023, or a document other than the script's.
    const style = element("style", "", css);
    style.nonce = document.querySelector<HTMLElement>("script[nonce]")?.nonce ?? "";
    root.append(style);
  }
  return { host, root };
}

const reduced = typeof matchMedia === "undefined" ? null : matchMedia("(prefers-reduced-motion: reduce)");

/** This person wants things to move as little as can be. */
export function reducedMotion(): boolean {
  return reduced?.matches ?? false;
}
