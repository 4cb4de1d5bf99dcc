// Makes one declaration file of those that tsc writes of a folder's files.
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

/**
 * The declarations that the module at `entry` exports, as the text of one file. `published` says where
 * modules that are published apart are, by their path in `root`; all others become part of the text.
 */
export function bundled(root, entry, published) {
  const modules = new Map();
  const read = (path) => {
    if (!modules.has(path)) modules.set(path, parse(readFileSync(join(root, `${path}.d.ts`), "utf8")));
    return modules.get(path);
  };
  const taken = new Map();
  const imports = new Map();
  const resolve = (from, specifier) => {
    if (!specifier.startsWith(".")) return { outside: specifier };
    const path = normalize(join(dirname(from), specifier));
    return path in published ? { outside: published[path] } : { path };
  };
  // A declaration, and those that it names; or the import that it comes by.
  const take = (path, name, exported) => {
    const module = read(path);
    const declaration = module.declarations.get(name);
    const specifier = module.imports.get(name);
    if (!declaration && specifier === undefined) throw new Error(`${path} declares no ${name}`);
    if (!declaration) {
      const found = resolve(path, specifier);
      if (found.path !== undefined) return take(found.path, name, exported);
      return void imports.set(found.outside, (imports.get(found.outside) ?? new Set()).add(name));
    }
    const known = taken.get(name);
    if (known && known.declaration !== declaration) throw new Error(`two modules declare ${name}`);
    if (known) return void (known.exported ||= exported);
    taken.set(name, { declaration, exported });
    for (const other of new Set(declaration.match(/[\w$]+/g))) {
      if (other !== name && (module.declarations.has(other) || module.imports.has(other))) take(path, other, false);
    }
  };
  const all = (path) => {
    const module = read(path);
    for (const name of module.exported) take(path, name, true);
    for (const { names, specifier } of module.forwarded) for (const name of names) take(resolve(path, specifier).path, name, true);
  };
  all(entry);
  const head = [...imports].map(([from, names]) => `import type { ${[...names].sort().join(", ")} } from ${JSON.stringify(from)};\n`);
  const body = [...taken.values()].map(({ declaration, exported }) => (exported ? declaration : declaration.replace(/^export /gm, "")));
  return `${head.join("")}${head.length > 0 ? "\n" : ""}${body.join("\n")}\nexport {};\n`;
}

/** The statements of a declaration file. */
function parse(text) {
  const module = { declarations: new Map(), exported: new Set(), imports: new Map(), forwarded: [] };
  const names = (list) => list.split(",").map((one) => one.trim().replace(/^type /, "")).filter(Boolean);
  for (const statement of statements(text)) {
    if (statement === "export {};") continue;
    const code = statement.replace(/^(\s*\/\*\*[\s\S]*?\*\/\n)*/, "");
    const [, keyword, list, specifier] = /^(import|export) (?:type )?\{([\s\S]*?)\} from "(.*?)";$/.exec(code.trim()) ?? [];
    if (keyword === "import") for (const name of names(list)) module.imports.set(name, specifier);
    else if (keyword) module.forwarded.push({ names: names(list), specifier });
    else {
      const [, exported, name] = /^(export )?(?:declare )?(?:interface|type|function|const|class) ([\w$]+)/.exec(code) ?? [];
      if (name === undefined) throw new Error(`not understood in a declaration file: ${code.slice(0, 100)}`);
      // Overloads are several statements.
      module.declarations.set(name, `${module.declarations.get(name) ?? ""}${statement}\n`);
      if (exported) module.exported.add(name);
    }
  }
  return module;
}

/** Each with the comment before it. */
function statements(text) {
  const found = [];
  let lines = [];
  let depth = 0;
  let comment = false;
  for (const line of text.split("\n")) {
    if (lines.length === 0 && (line === "" || /^["']use /.test(line))) continue;
    lines.push(line);
    if (/^\s*\/\*/.test(line)) comment = true;
    if (comment) {
      comment = !line.includes("*/");
      continue;
    }
    for (const sign of line) depth += "{([".includes(sign) ? 1 : "})]".includes(sign) ? -1 : 0;
    if (depth > 0 || !/[;}]$/.test(line)) continue;
    found.push(lines.join("\n"));
    lines = [];
  }
  return found;
}
