// Puts the page and the client's own files side by side in dist/: no bundler, any static server will do.
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";

const client = "node_modules/cursormesh";
rmSync("dist", { recursive: true, force: true });
mkdirSync("dist/cursormesh", { recursive: true });
for (const file of ["index.html", "style.css", "app.mjs"]) cpSync(file, `dist/${file}`);
// The core fetches the others when it needs them.
for (const file of readdirSync(client)) if (file.endsWith(".mjs") && !file.includes("react")) cpSync(`${client}/${file}`, `dist/cursormesh/${file}`);
console.log(`dist: ${readdirSync("dist", { recursive: true }).join(", ")}`);
