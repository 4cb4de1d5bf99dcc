// Visitors that this page makes up, so that somebody who is alone sees it move. Each is a client of its
// own, with a connection to one of the nodes, and comes and goes like anybody.

import { connect } from "../cursormesh.mjs";
import { chat } from "../cursormesh-ui.mjs";
import { Wanderer, random } from "./wander.mjs";

export const BOTS_MAX = 32;
/** One timer moves them all. */
const STEP_MS = 34;
/** They come one after the other, as people would. */
const ARRIVAL_MS = 120;
/** From one thing that a bot says or feels to its next, at least and at most. */
const MOOD_MS_MIN = 6_000;
const MOOD_MS_MAX = 30_000;
const WORD_MS = 190;
/** How long a sentence stands once it is said. */
const SAID_MS = 2_600;
/** A tab that nobody looks at for this long needs no company. */
const HIDDEN_MS = 60_000;

const NAMES = "Mochi Pixel Sprout Nimbus Biscuit Juniper Cosmo Waffle Olive Ziggy Pepper Maple Echo Tango Clover Rusty Saffron Bonbon Domino Fable Gizmo Hopper Indigo Jasper Koko Lumen Marble Nutmeg Orbit Pippin Quill Ripple".split(" ");
const FEELINGS = ["👍", "❤️", "🎉", "😂", "👀", "🚀"];
const SENTENCES = [
  "hello from this node", "is anybody over here?", "look, no broker in between", "this corner is mine", "over here!",
  "I like this colour", "who moved that?", "back in a second", "smooth, isn't it?", "wave if you see me",
];

export class Bots {
  #bots = [];
  #timer = 0;
  #arrivals = new Set();
  #hiding = 0;
  /** How many come back when somebody looks at the tab again. */
  #asleep = 0;
  #seed;

  /**
   * `urls()` resolves to the addresses that they are spread over, none for the node of the page;
   * `area()` is the part of the board that they wander over, in its pixels: {left, top, width, height};
   * `changed` is called with how many there are.
   */
  constructor({ room, urls, area, changed, seed = Math.floor(Math.random() * 2 ** 32) }) {
    Object.assign(this, { room, urls, area, changed });
    this.#seed = seed;
    addEventListener("pagehide", () => this.#sleep());
    addEventListener("pageshow", (event) => event.persisted && this.#wake());
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#hiding);
      if (document.hidden) this.#hiding = setTimeout(() => this.#sleep(), HIDDEN_MS);
      else this.#wake();
    });
  }

  get count() {
    return this.#bots.length + this.#arrivals.size;
  }

  async add(wanted) {
    const count = Math.min(wanted, BOTS_MAX - this.count);
    if (count <= 0) return;
    const coming = Array.from({ length: count }, () => ({ timer: 0 }));
    for (const one of coming) this.#arrivals.add(one);
    this.changed(this.count);
    const urls = await this.urls();
    for (const [at, one] of coming.entries()) {
      // They may have been sent away meanwhile.
      if (this.#arrivals.has(one)) one.timer = setTimeout(() => this.#come(one, urls), ARRIVAL_MS * at);
    }
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
    for (const { timer } of this.#arrivals) clearTimeout(timer);
    this.#arrivals.clear();
    for (const bot of this.#bots) bot.leave();
    this.#bots = [];
    this.changed(0);
  }

  #come(arrival, urls) {
    this.#arrivals.delete(arrival);
    const taken = new Set(this.#bots.map(({ index }) => index));
    let index = 0;
    while (taken.has(index)) index += 1;
    // The first ones go to other nodes than the page's own.
    const url = urls.length > 0 ? urls[(index + 1) % urls.length] : undefined;
    this.#bots.push(new Bot(this.room, index, this.#seed, url));
    this.#timer ||= setInterval(() => this.#step(), STEP_MS);
    this.changed(this.count);
  }

  #step() {
    const now_ms = performance.now();
    const area = this.area();
    for (const bot of this.#bots) bot.step(now_ms, area);
  }

  #sleep() {
    const count = this.count;
    if (count === 0) return;
    this.stop();
    this.#asleep = count;
  }

  #wake() {
    const count = this.#asleep;
    this.#asleep = 0;
    if (count > 0) this.add(count);
  }
}

class Bot {
  #client;
  #room;
  #chat;
  #hand;
  #random;
  #mood_ms;
  #place = null;
  /** What it is about to say, word by word. */
  #words = [];
  #said = "";
  #word_ms = 0;

  constructor(room, index, seed, url) {
    this.index = index;
    const now_ms = performance.now();
    const own = (seed + Math.imul(index + 1, 0x9e3779b9)) >>> 0;
    this.#random = random(own);
    this.#hand = new Wanderer(own ^ 0x55555555, now_ms);
    this.#mood_ms = now_ms + this.#random() * MOOD_MS_MAX;
    this.#client = connect({ ...(url && { url }), persist: false, nearest: false });
    // Hues a golden angle apart are never close to one another.
    const color = Math.round((seed % 360) + index * 137.5) % 360;
    this.#room = this.#client.room(room, { user: { name: `${NAMES[index % NAMES.length]} bot`, color }, state: { bot: true } });
    this.#chat = chat(this.#room);
  }

  step(now_ms, { left, top, width, height }) {
    if (!this.#room.joined) return;
    const { x, y } = this.#hand.at(now_ms);
    const place = { x: Math.round(left + x * width), y: Math.round(top + y * height) };
    if (place.x !== this.#place?.x || place.y !== this.#place?.y) this.#room.cursors.set(place.x, place.y);
    this.#place = place;
    this.#speak(now_ms);
    if (now_ms > this.#mood_ms) this.#feel(now_ms);
  }

  leave() {
    this.#client.close();
  }

  #feel(now_ms) {
    const pick = (all) => all[Math.floor(this.#random() * all.length)];
    this.#mood_ms = now_ms + MOOD_MS_MIN + this.#random() * (MOOD_MS_MAX - MOOD_MS_MIN);
    if (this.#random() < 0.55) this.#room.events.send("cursormesh.reaction", { emoji: pick(FEELINGS), ...this.#place });
    else this.#words = pick(SENTENCES).split(" ");
  }

  #speak(now_ms) {
    if (now_ms < this.#word_ms || (this.#words.length === 0 && !this.#said)) return;
    const word = this.#words.shift();
    this.#said = word === undefined ? "" : `${this.#said} ${word}`.trim();
    this.#chat.say(this.#said || null);
    this.#word_ms = now_ms + (this.#words.length > 0 ? WORD_MS : SAID_MS);
  }
}
