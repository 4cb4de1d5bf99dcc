import type { User } from "../api";
import { shown } from "./text";

const ADJECTIVES = "Amber Bold Brave Bright Calm Clever Cosmic Curious Daring Eager Fancy Gentle Golden Happy Jolly Kind Lively Lucky Mellow Merry Nimble Noble Patient Quick Quiet Sunny Swift Tidy Warm Witty".split(" ");
const ANIMALS = "Badger Bear Beaver Crane Dolphin Falcon Finch Fox Gecko Hare Heron Koala Lemur Lynx Marten Newt Ocelot Orca Otter Owl Panda Penguin Puffin Robin Seal Sparrow Swan Tapir Turtle Wombat".split(" ");
const NAME = "cursormesh.name";
const COLOR = "cursormesh.color";
const ID = "cursormesh.id";

/** Who this browser is to others where the page does not say: the same in all its tabs, and next time. */
export function friend(storage: () => Pick<Storage, "getItem" | "setItem">, random: () => number = Math.random): User {
  const pick = (from: readonly string[]) => from[Math.floor(random() * from.length)] ?? "";
  return {
    id: kept(storage, ID, (text) => /^[a-z0-9]{16}$/.test(text), () => Array.from({ length: 16 }, () => Math.floor(random() * 36).toString(36)).join("")),
    name: kept(storage, NAME, (text) => shown(text, 40) === text && text !== "", () => `${pick(ADJECTIVES)} ${pick(ANIMALS)}`),
    color: Number(kept(storage, COLOR, (text) => /^\d{1,3}$/.test(text) && Number(text) < 360, () => String(Math.floor(random() * 360)))),
  };
}

/** What is stored if it is good, else something new. Pages that may not store anything throw at the mere look. */
function kept(storage: () => Pick<Storage, "getItem" | "setItem">, key: string, good: (text: string) => boolean, make: () => string): string {
  try {
    const found = storage().getItem(key);
    if (found !== null && good(found)) return found;
  } catch {
    return make();
  }
  const made = make();
  try {
    storage().setItem(key, made);
  } catch {
    // Full, or forbidden: forgotten with the page.
  }
  return made;
}
