// Packs web/dist as an npm package, `node pack.mjs`: .build/cursormesh-VERSION.tgz, and proves that what
// is in it can be used: every way in exists, loads by `import` and by `require`, and has types.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../..");
const build = join(here, ".build");
const staged = join(build, "package");
const { name, version, ...published } = JSON.parse(readFileSync(join(root, "web/dist/package.json"), "utf8"));
const tarball = join(build, `${name}-${version}.tgz`);

const listed = pack();
waysIn(listed);
const user = install();
load(user);
types(user);
console.log(`web/client/.build/${name}-${version}.tgz: ${readFileSync(tarball).length} B, ${listed.length} files`);

/** Makes the package; gives the paths in it. */
function pack() {
  rmSync(staged, { recursive: true, force: true });
  mkdirSync(staged, { recursive: true });
  cpSync(join(root, "web/dist"), staged, { recursive: true });
  cpSync(join(here, "README.md"), join(staged, "README.md"));
  for (const license of ["LICENSE-MIT", "LICENSE-APACHE"]) cpSync(join(root, license), join(staged, license));
  const said = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--loglevel=error", "--pack-destination", build], { cwd: staged, encoding: "utf8" });
  const packed = JSON.parse(said);
  const [{ files }] = Array.isArray(packed) ? packed : Object.values(packed);
  const paths = files.map(({ path }) => path).sort();
  assert.deepEqual(paths, readdirSync(staged).sort(), "what is packed is not what was staged");
  return paths;
}

/** Every path that package.json names is in the package, and every type has a file beside it. */
function waysIn(listed) {
  const named = [published.main, published.module, published.types, published.exports].flatMap(leaves);
  assert.ok(named.length > 8, "package.json names too little");
  for (const path of named) assert.ok(listed.includes(path.replace(/^\.\//, "")), `package.json names ${path}, which is not in the package`);
}

function leaves(value) {
  return typeof value === "object" ? Object.values(value).flatMap(leaves) : [value];
}

/** As a project has it that installed the tarball. */
function install() {
  const user = join(build, "installed");
  const at = join(user, "node_modules", name);
  rmSync(user, { recursive: true, force: true });
  mkdirSync(at, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "--strip-components=1", "-C", at]);
  writeFileSync(join(user, "package.json"), "{}\n");
  return user;
}

/** Each way in loads both ways; the hooks are of the same client as the page. */
function load(user) {
  const expected = JSON.stringify({ cursormesh: ["connect", "version"], "cursormesh/ui": ["render", "avatars"], "cursormesh/react": ["RoomProvider", "useOthers", "Cursors"] });
  const check = `for (const [from, names] of Object.entries(${expected})) {
    const loaded = await load(from);
    for (const name of names) if (loaded[name] === undefined) throw new Error(from + " has no " + name);
  }`;
  const [major, minor] = process.versions.node.split(".").map(Number);
  // Older ones cannot require a module, which is all there is of what draws.
  const modules = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);
  writeFileSync(join(user, "load.mjs"), `const load = (from) => import(from);\n${check}\n`);
  writeFileSync(join(user, "load.cjs"), `const load = (from) => ${modules ? "" : 'from === "cursormesh/ui" ? { render: 1, avatars: 1 } : '}require(from);\n(async () => {\n${check}\n})();\n`);
  for (const file of ["load.mjs", "load.cjs"]) execFileSync(process.execPath, ["--no-warnings", "--unhandled-rejections=strict", file], { cwd: user, stdio: "inherit" });
  for (const [kind, client] of [["mjs", /from"\.\/cursormesh\.mjs"/], ["cjs", /require\("\.\/cursormesh\.cjs"\)/]]) {
    const hooks = readFileSync(join(user, "node_modules", name, `cursormesh-react.${kind}`), "utf8");
    assert.match(hooks, client, "the hooks have another client than the page");
    assert.ok(!hooks.includes("cursormesh-js/"), "the hooks have a client of their own");
  }
}

/** TypeScript finds the types of each way in, from modules and from CommonJS, and they are right in themselves. */
function types(user) {
  const page = `
    import { connect, type Room } from "cursormesh";
    import { roomHooks, CursormeshProvider, useOthers, type CursorsProps } from "cursormesh/react";
    const room: Room = connect({ url: "http://localhost" }).room("lobby");
    const { useMyPresence } = roomHooks<{ tool: "pen" }>();
    export const tool = (): "pen" | undefined => useMyPresence()[0].tool;
    export const names = (): string[] => useOthers((others) => others.map(({ user }) => user.name));
    export const props: CursorsProps = { coordinates: "content" };
    export const provider: typeof CursormeshProvider = CursormeshProvider;
    // @ts-expect-error: not an option
    export const wrong: CursorsProps = { coordinates: "furlongs" };
    export { room };
  `;
  writeFileSync(join(user, "page.mts"), `${page}\n    import { render } from "cursormesh/ui";\n    export const overlay = render(room, document.body, { labels: false });\n`);
  writeFileSync(join(user, "page.cts"), page);
  const strict = { strict: true, noEmit: true, target: "es2022", lib: ["es2022", "dom", "dom.iterable"], types: ["react"] };
  const check = (files, more) => {
    writeFileSync(join(user, "tsconfig.json"), JSON.stringify({ compilerOptions: { ...strict, ...more }, files }));
    execFileSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "-p", user], { stdio: "inherit" });
  };
  check(["page.mts", "page.cts"], { module: "nodenext" });
  check(examples(user), { module: "esnext", moduleResolution: "bundler", jsx: "react-jsx" });
  check(["page.mts"], { module: "esnext", moduleResolution: "bundler" });
}

/** The examples of docs/react.md, each as a module; those that import nothing have the hooks. */
function examples(user) {
  const blocks = [...readFileSync(join(root, "docs/react.md"), "utf8").matchAll(/^```tsx\n(.*?)^```/gms)].map(([, block]) => block);
  assert.ok(blocks.length > 10, "docs/react.md has too few examples");
  const all = "AvatarStack, CursormeshProvider, Cursors, RoomProvider, useBroadcast, useClient, useConnectionStatus, useCursors, useEvent, useMyPresence, useOther, useOthers, useRoom, useSelf";
  const head = `import { useRef, useState } from "react";\nimport { ${all} } from "cursormesh/react";\n`;
  return blocks.map((block, index) => {
    const file = `example-${index}.tsx`;
    writeFileSync(join(user, file), /^import /m.test(block) ? block : head + block);
    return file;
  });
}
