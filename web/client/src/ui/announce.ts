import type { Member, Room, Unsubscribe } from "../api";
import type { Words } from "./api";
import { element, shadow } from "./element";
import { SPOKEN } from "./style";
import { nameOf } from "./text";

/** What happens within this time is said together, and no more often. */
const BATCH_MS = 2_000;
/** What was said is taken away again, so that nobody comes upon it later. */
const KEPT_MS = 10_000;
/** Names in one sentence; the rest is a number. */
const NAMES_MAX = 3;
/** Visible characters of a name. */
const NAME_MAX = 40;
/** Names keep their own direction within a sentence. */
const ISOLATE = "\u2068";
const POP = "\u2069";

const ENGLISH: Required<Words> = {
  joined: (names) => `${names} joined`,
  left: (names) => `${names} left`,
  list: (names, more) => {
    if (more > 0) return `${names.join(", ")} and ${more} more`;
    return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
  },
};

/** One voice per room, however many overlays it has. */
const voices = new WeakMap<Room, { voice: Voice; users: number }>();

/** Says politely who comes and goes, to screen readers, until the result is called. */
export function announce(room: Room, words: Words): Unsubscribe {
  const found = voices.get(room) ?? { voice: new Voice(room, { ...ENGLISH, ...words }), users: 0 };
  voices.set(room, found);
  found.users += 1;
  return () => {
    found.users -= 1;
    if (found.users > 0) return;
    voices.delete(room);
    found.voice.stop();
  };
}

class Voice {
  readonly #host: HTMLElement;
  readonly #text = element("div", "");
  readonly #ends: Unsubscribe[];
  /** By person, and what is to be said of them. */
  readonly #news = new Map<string, { name: string; came: boolean }>();
  #batch: ReturnType<typeof setTimeout> | undefined;
  #clear: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly room: Room,
    private readonly words: Required<Words>,
  ) {
    const { host, root } = shadow("announcements", SPOKEN);
    this.#host = host;
    this.#text.setAttribute("role", "status");
    this.#text.setAttribute("aria-live", "polite");
    this.#text.setAttribute("aria-atomic", "true");
    root.append(this.#text);
    document.documentElement.append(host);
    this.#ends = [
      room.presence.on("joined", ({ member, initial }) => !initial && this.#note(member, true)),
      room.presence.on("left", ({ member }) => this.#note(member, false)),
    ];
  }

  stop(): void {
    for (const end of this.#ends) end();
    clearTimeout(this.#batch);
    clearTimeout(this.#clear);
    this.#host.remove();
  }

  #note(member: Member, came: boolean): void {
    const person = personOf(member);
    const { me, others } = this.room;
    // Another tab of somebody who is here.
    const here = [...others, ...(me.member ? [me.member] : [])];
    if (here.some((other) => other.id !== member.id && personOf(other) === person)) return;
    const before = this.#news.get(person);
    // Back before anything was said of it.
    if (before && before.came !== came) this.#news.delete(person);
    else this.#news.set(person, { name: ISOLATE + nameOf(member.user, NAME_MAX) + POP, came });
    this.#batch ??= setTimeout(() => this.#say(), BATCH_MS);
  }

  #say(): void {
    this.#batch = undefined;
    const parts = [true, false].flatMap((came) => {
      const names = [...this.#news.values()].filter((one) => one.came === came).map(({ name }) => name);
      if (names.length === 0) return [];
      const list = this.words.list(names.slice(0, NAMES_MAX), Math.max(0, names.length - NAMES_MAX));
      return [came ? this.words.joined(list, names.length) : this.words.left(list, names.length)];
    });
    this.#news.clear();
    if (parts.length === 0) return;
    this.#text.textContent = parts.join(". ");
    clearTimeout(this.#clear);
    this.#clear = setTimeout(() => this.#text.replaceChildren(), KEPT_MS);
  }
}

/** Who a member is, whichever tab. */
export function personOf({ id, user }: Member): string {
  return user.id === "" ? id : `user ${user.id}`;
}
