// Who this visitor is: a name and a colour that the browser keeps, under the keys that pages with the
// client's script tag use, too.

const NAME = "cursormesh.name";
const COLOR = "cursormesh.color";
export const NAME_LENGTH_MAX = 40;

/** Text from anyone, made fit to show: no control or direction-override characters, not too long. */
export function tidy(name) {
  if (typeof name !== "string") return "";
  const visible = name.slice(0, 4096).replace(/[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, " ").replace(/\s+/gu, " ").trim();
  return [...visible].slice(0, NAME_LENGTH_MAX).join("").trim();
}

/** A hue from 0 to 359; `null` for what is none. */
function hue(text) {
  return /^\d{1,3}$/.test(text ?? "") && Number(text) < 360 ? Number(text) : null;
}

function inventName() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  return pick(["Amber", "Brisk", "Calm", "Dusty", "Early", "Fern", "Gentle", "Hazel", "Ivory", "Jolly", "Keen", "Lunar", "Mellow", "Quiet", "Rapid", "Sunny"])
    + " " + pick(["Badger", "Crane", "Dolphin", "Egret", "Finch", "Gecko", "Heron", "Ibex", "Lynx", "Marten", "Newt", "Otter", "Puffin", "Raven", "Seal", "Wren"]);
}

/** `{name, color}`: what is kept, and what is made up where nothing is. */
export function person() {
  const found = { name: tidy(read(NAME)) || inventName(), color: hue(read(COLOR)) ?? Math.floor(Math.random() * 360) };
  keep(found);
  return found;
}

export function keep({ name, color }) {
  write(NAME, name);
  write(COLOR, String(color));
}

// A private window may throw at the mere look, and forgets; that is all.
function read(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function write(key, text) {
  try { localStorage.setItem(key, text); } catch { /* forgotten with the page */ }
}

/** A member that never says its name, such as the tutorial's page, is called by its id. */
export function nameOf(member) {
  return tidy(member.user.name) || `Guest ${member.id.slice(0, 4)}`;
}
