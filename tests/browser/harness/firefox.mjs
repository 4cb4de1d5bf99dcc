// A real headless Firefox, driven over WebDriver BiDi.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { endings } from "./endings.mjs";
import { freshFilesOf } from "./files.mjs";

const CANDIDATES = process.env.FIREFOX ? [process.env.FIREFOX] : ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
/** A machine that does much else starts it slowly. */
const START_MS_MAX = 90_000;
const EXIT_MS_MAX = 10_000;

const firefoxPath = () => CANDIDATES.find((candidate) => existsSync(candidate));

/** Why there is no Firefox to drive; `null` where there is one. */
export async function firefoxAbsent() {
  if (!firefoxPath()) return "firefox-esr is not installed: `apt-get install firefox-esr`, or name another in FIREFOX";
  return await import("puppeteer-core").then(() => null, () => "puppeteer-core is not installed: `npm ci` in tests/browser");
}

/** A Firefox that ends with the test `t`, and the one page in it; `page.errors` has what went wrong in it. */
export async function openFirefox(t) {
  const { default: puppeteer } = await import("puppeteer-core");
  const home = mkdtempSync(path.join(os.tmpdir(), "cursormesh-firefox-"));
  const atEnd = endings(t);
  atEnd(() => rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));
  const started = await puppeteer.launch({
    browser: "firefox",
    executablePath: firefoxPath(),
    headless: true,
    timeout: START_MS_MAX,
    protocolTimeout: START_MS_MAX,
    defaultViewport: { width: 1000, height: 700 },
    // A home of its own, and no questions to the vendor's servers while it starts.
    env: { PATH: process.env.PATH, HOME: home, TMPDIR: home, MOZ_REMOTE_SETTINGS_DEVTOOLS: "1", MOZ_CRASHREPORTER_DISABLE: "1" },
  });
  const child = started.process();
  atEnd(async () => {
    const late = setTimeout(() => child.kill("SIGKILL"), EXIT_MS_MAX);
    await started.close().finally(() => clearTimeout(late));
  });
  const page = await started.newPage();
  await freshFilesOf(page);
  page.version = await started.version();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("console", (message) => /Content.Security.Policy/.test(message.text()) && page.errors.push(message.text()));
  return page;
}
