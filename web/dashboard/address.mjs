// Where other nodes can be asked from this page: on this machine only, and by the address that they
// give to clients.

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** The base address for requests to a node on loopback, from the address for its clients; else null. */
export function askableBase(url) {
  let parsed;
  try { parsed = new URL(url); } catch { return null; }
  const scheme = { "ws:": "http:", "wss:": "https:", "http:": "http:", "https:": "https:" }[parsed.protocol];
  if (!scheme || !LOOPBACK.test(parsed.hostname)) return null;
  return `${scheme}//${parsed.host}/`;
}
