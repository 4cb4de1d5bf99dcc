// Builds the client: `node build.mjs OUT` writes the published files to OUT and fails if the core is
// too large; `node build.mjs --tests OUT` bundles the tests for `node --test`.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { runInNewContext } from "node:vm";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { bundled } from "./declarations.mjs";

const CORE_GZIP_BYTES_MAX = 10_000;
/** What draws, with smoothing and styles; fetched by pages that ask for it. */
const UI_GZIP_BYTES_MAX = 18_000;
/** Hooks and components; what they draw with is in the part above. */
const REACT_GZIP_BYTES_MAX = 5_000;

const here = dirname(fileURLToPath(import.meta.url));
const { name, version, description, license } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
/** What a bundler reads of the built files. */
const published = {
  name,
  version,
  description,
  license,
  type: "module",
  sideEffects: false,
  main: "./cursormesh.cjs",
  module: "./cursormesh.mjs",
  types: "./cursormesh.d.ts",
  exports: {
    ".": {
      import: { types: "./cursormesh.d.ts", default: "./cursormesh.mjs" },
      require: { types: "./cursormesh.d.cts", default: "./cursormesh.cjs" },
    },
    "./ui": { types: "./cursormesh-ui.d.ts", default: "./cursormesh-ui.mjs" },
    "./react": {
      import: { types: "./cursormesh-react.d.ts", default: "./cursormesh-react.mjs" },
      require: { types: "./cursormesh-react.d.cts", default: "./cursormesh-react.cjs" },
    },
    "./package.json": "./package.json",
  },
  peerDependencies: { react: ">=18" },
  peerDependenciesMeta: { react: { optional: true } },
};
const banner = { js: `/* cursormesh ${version} | MIT OR Apache-2.0 */` };
const workspace = /\[workspace\.package\][^[]*?^version = "(.*?)"/ms.exec(readFileSync(join(here, "../../Cargo.toml"), "utf8"))?.[1];
const source = /VERSION = "(.*?)"/.exec(readFileSync(join(here, "src/version.ts"), "utf8"))?.[1];
if (version !== source || (workspace !== undefined && version !== workspace)) {
  fail(`the versions differ: ${version} in package.json, ${source} in src/version.ts, ${workspace} in Cargo.toml`);
}

const [mode, directory = ".build"] = process.argv[2] === "--tests" ? ["tests", process.argv[3]] : ["dist", process.argv[2]];
const out = join(process.cwd(), directory);
mkdirSync(out, { recursive: true });
if (mode === "tests") await buildTests();
else await buildClient();

async function buildClient() {
  const shared = { bundle: true, minify: true, target: "es2022", legalComments: "none", charset: "utf8", logLevel: "warning", absWorkingDir: here };
  // Three parts are files beside the core, fetched when they are needed.
  const apart = {
    name: "apart",
    setup: ({ onResolve }) => onResolve({ filter: /\/(sockjs|nearest|ui)$/ }, ({ path }) => ({ path: `./cursormesh-${basename(path)}.mjs`, external: true })),
  };
  const module = (entry, file, more = {}) =>
    build({ ...shared, banner, entryPoints: [entry], format: "esm", outfile: join(out, file), ...more });
  await Promise.all([
    module("src/index.ts", "cursormesh.mjs", { plugins: [apart] }),
    module("src/transport/sockjs.ts", "cursormesh-sockjs.mjs"),
    module("src/nearest.ts", "cursormesh-nearest.mjs"),
    module("src/ui/index.ts", "cursormesh-ui.mjs"),
    ...["mjs", "cjs"].map((kind) => react(module, kind, apart)),
  ]);
  wrap();
  declarations();
  writeFileSync(join(out, "package.json"), `${JSON.stringify(published, null, 2)}\n`);
  await formats();
  for (const file of ["cursormesh.js", "cursormesh.mjs", "cursormesh.cjs", "cursormesh-sockjs.mjs", "cursormesh-nearest.mjs", "cursormesh-ui.mjs", "cursormesh-react.mjs", "cursormesh-react.cjs"]) {
    const bytes = readFileSync(join(out, file));
    const gzip = gzipSync(bytes, { level: 9 }).length;
    console.log(`${file.padEnd(24)} ${bytes.length} B, ${gzip} B gzip, ${brotliCompressSync(bytes).length} B brotli`);
    const max = file.includes("-ui") ? UI_GZIP_BYTES_MAX : file.includes("-react") ? REACT_GZIP_BYTES_MAX : CORE_GZIP_BYTES_MAX;
    if (gzip > max) fail(`${file} is larger than ${max} B in gzip`);
  }
}

/** The hooks, which import the page's own React and the same client as the page itself. */
function react(module, kind, apart) {
  const client = { name: "client", setup: ({ onResolve }) => onResolve({ filter: /^\.\.\/index$/ }, () => ({ path: `./cursormesh.${kind}`, external: true })) };
  return module("src/react/index.ts", `cursormesh-react.${kind}`, {
    format: kind === "cjs" ? "cjs" : "esm", platform: "node", external: ["react"], plugins: [apart, client],
  });
}

/** The module as a script and for `require`, in wrappers that are 400 B smaller than the bundler's own. */
function wrap() {
  const text = readFileSync(join(out, "cursormesh.mjs"), "utf8");
  const [, comment, body, exported] = /^(\/\*.*?\*\/\n)(.*)export\{(.*?)\};\n$/s.exec(text) ?? fail("cursormesh.mjs does not end with its exports");
  if (/\bimport\s*[{*"'\w]|import\.meta/.test(body)) fail("cursormesh.mjs imports something in a way that scripts cannot");
  const names = exported.split(",").map((one) => one.replace(/^(\S+) as (\S+)$/, "$2:$1")).join();
  // To a script from another origin its own address means nothing: `import` has to be given a whole one.
  const whole = `let __at=typeof document<"u"&&document.currentScript?.src,__import=e=>import(__at?new URL(e,__at).href:e);`;
  const script = body.replaceAll('import("./', '__import("./');
  writeFileSync(join(out, "cursormesh.js"), `${comment}"use strict";var cursormesh=(()=>{${whole}${script}return{${names}}})();\n`);
  writeFileSync(join(out, "cursormesh.cjs"), `${comment}"use strict";${body}module.exports={__esModule:!0,${names}};\n`);
}

/** api.ts imports nothing, so what tsc makes of it is the whole declaration file but for `connect`. */
function declarations() {
  const types = join(here, ".build/types");
  rmSync(types, { recursive: true, force: true });
  execFileSync(
    process.execPath,
    [join(here, "node_modules/typescript/bin/tsc"), "-p", join(here, "tsconfig.build.json"), "--outDir", types],
    { stdio: "inherit" },
  );
  const api = readFileSync(join(types, "api.d.ts"), "utf8");
  const index = readFileSync(join(types, "index.d.ts"), "utf8");
  const connect = /(\/\*\*(?:(?!\/\*\*)[\s\S])*?\*\/\n)export declare function connect.*\n/.exec(index)?.[0];
  if (!connect || /^import /m.test(api)) fail("src/api.ts imports something, or src/index.ts has no documented connect()");
  const text = `${api}\n${connect}/** The version of this client. */\nexport declare const version: string;\n/** For script tags. */\nexport as namespace cursormesh;\n`;
  writeFileSync(join(out, "cursormesh.d.ts"), text);
  cpSync(join(out, "cursormesh.d.ts"), join(out, "cursormesh.d.cts"));
  writeFileSync(join(out, "cursormesh-ui.d.ts"), uiDeclarations(types));
  const hooks = bundled(types, "react/index", { api: "./cursormesh.js", ui: "./cursormesh-ui.js" });
  writeFileSync(join(out, "cursormesh-react.d.ts"), hooks);
  writeFileSync(join(out, "cursormesh-react.d.cts"), hooks
    .replaceAll('"./cursormesh.js"', '"./cursormesh.cjs"')
    // There is only a module of it.
    .replaceAll('from "./cursormesh-ui.js"', 'from "./cursormesh-ui.js" with { "resolution-mode": "import" }'));
}

/** The types of what draws, and its functions; the client's own types come from beside it. */
function uiDeclarations(types) {
  const api = readFileSync(join(types, "ui/api.d.ts"), "utf8").replaceAll('"../api"', '"./cursormesh.js"');
  const index = readFileSync(join(types, "ui/index.d.ts"), "utf8");
  const functions = index.match(/\/\*\*(?:(?!\*\/)[\s\S])*\*\/\nexport declare function .*\n/g) ?? fail("src/ui/index.ts has no documented functions");
  if (functions.length !== index.match(/^export declare /gm).length) fail("something in src/ui/index.ts is not documented");
  if (/from "\.\.?\/(?!cursormesh\.js")/.test(api)) fail("src/ui/api.ts imports something else than the client's types");
  return `${api}${functions.join("")}`;
}

/** Each format loads in its own way and says the same. */
async function formats() {
  const iife = { URL, result: null };
  runInNewContext(`${readFileSync(join(out, "cursormesh.js"), "utf8")}; result = cursormesh;`, iife);
  const loaded = {
    "cursormesh.js": iife.result,
    "cursormesh.cjs": createRequire(import.meta.url)(join(out, "cursormesh.cjs")),
    "cursormesh.mjs": await import(pathToFileURL(join(out, "cursormesh.mjs"))),
  };
  for (const [file, one] of Object.entries(loaded)) {
    if (typeof one.connect !== "function" || one.version !== version) fail(`${file} does not export what it should`);
  }
  const ui = await import(pathToFileURL(join(out, "cursormesh-ui.mjs")));
  const declared = readFileSync(join(out, "cursormesh-ui.d.ts"), "utf8");
  for (const [, called] of declared.matchAll(/^export declare function (\w+)/gm)) {
    if (typeof ui[called] !== "function") fail(`cursormesh-ui.mjs does not export ${called}`);
  }
}

async function buildTests() {
  rmSync(out, { recursive: true, force: true });
  const tests = readdirSync(join(here, "test")).filter((name) => name.endsWith(".test.ts"));
  const bundle = (names, more = {}) =>
    build({
      entryPoints: names.map((name) => join(here, "test", name)),
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20",
      sourcemap: "inline",
      outdir: out,
      outExtension: { ".js": ".mjs" },
      // What is no module asks for Node's own parts by `require`.
      banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
      external: ["happy-dom"],
      logLevel: "warning",
      ...more,
    });
  await bundle(tests);
  // The same tests of the hooks on the oldest React that they are for.
  await bundle(tests.filter((name) => name.startsWith("react")), {
    outdir: join(out, "react-18"),
    alias: { react: "react-18", "react-dom": "react-dom-18" },
  });
}

function fail(message) {
  console.error(`web/client: ${message}`);
  process.exit(1);
}
