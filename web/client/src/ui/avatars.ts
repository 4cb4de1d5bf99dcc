import type { Member, Room, Unsubscribe } from "../api";
import type { AvatarOptions, AvatarStack } from "./api";
import { colors } from "./color";
import { element, setText, shadow } from "./element";
import { type Face, facesOf } from "./faces";
import { ownOf } from "./own";
import { FACES } from "./style";
import { initials, nameOf } from "./text";

const MAX = 5;
const GRACE_MS = 5_000;
const NAME_MAX = 60;
/** Names in the tip of the number at the end. */
const REST_MAX = 8;

/** A row of faces; nothing of it is made anew while its person is there, so that focus stays where it is. */
export class Faces implements AvatarStack {
  readonly #host: HTMLElement;
  readonly #list = element("ul", "faces");
  readonly #items = new Map<string, Item>();
  readonly #more: { item: HTMLElement; face: HTMLElement; tip: HTMLElement };
  readonly #ends: Unsubscribe[];
  #faces: Face[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** In `container`, or in a corner of the window. */
  constructor(
    private readonly room: Room,
    container: Element | null,
    private readonly options: AvatarOptions,
  ) {
    const { host, root } = shadow("avatars", FACES);
    this.#host = host;
    if (!container) host.dataset.corner = options.corner ?? "bottom-right";
    // A landmark, so that people find it and nothing of the page lies outside of one.
    host.setAttribute("role", "region");
    host.setAttribute("aria-label", options.label ?? "People on this page");
    // Without markers some browsers take a list for none.
    this.#list.setAttribute("role", "list");
    root.append(this.#list);
    const face = element("span", "face more");
    const tip = element("span", "tip");
    face.setAttribute("aria-hidden", "true");
    this.#more = { item: element("li", "item", face, tip), face, tip };
    (container ?? document.documentElement).append(host);
    const show = () => this.#show();
    this.#ends = [room.on("others", show), room.on("ready", show), room.on("recovered", show), room.on("rebuilt", show), room.on("ended", () => this.stop())];
    show();
  }

  stop(): void {
    for (const end of this.#ends) end();
    clearTimeout(this.#timer);
    this.#host.remove();
  }

  #show(): void {
    const { room, options } = this;
    const max = Math.max(1, Math.floor(options.max ?? MAX));
    const now_ms = performance.now();
    const self = (options.self ?? true) ? room.me.member : null;
    this.#faces = facesOf(room.others, self, this.#faces, now_ms, options.grace_ms ?? GRACE_MS);
    const unlisted = Math.max(0, room.count - room.others.length - (room.me.member ? 1 : 0));
    const here = this.#faces.filter(({ left_at }) => left_at === null);
    const rest = here.slice(max);
    // Who left makes room for who is here.
    const free = Math.max(0, max - here.length);
    const kept = new Set([...here.slice(0, max), ...this.#faces.filter(({ left_at }) => left_at !== null).slice(0, free)]);
    const items = this.#faces.filter((face) => kept.has(face)).map((face) => this.#item(face));
    this.#tellMore(rest, rest.length + unlisted);
    const wanted: Element[] = [...items.map(({ item }) => item), ...(rest.length + unlisted > 0 ? [this.#more.item] : [])];
    for (const [person, { item }] of this.#items) if (!wanted.includes(item)) this.#items.delete(person), item.remove();
    if (rest.length + unlisted === 0) this.#more.item.remove();
    wanted.forEach((item, at) => this.#list.children[at] !== item && this.#list.insertBefore(item, this.#list.children[at] ?? null));
    this.#host.hidden = wanted.length === 0;
    this.#again(now_ms);
  }

  #item(face: Face): Item {
    let item = this.#items.get(face.person);
    if (!item) this.#items.set(face.person, (item = new Item(this.options.choose)));
    item.show(face);
    return item;
  }

  #tellMore(rest: readonly Face[], count: number): void {
    const names = rest.slice(0, REST_MAX).map(({ member }) => nameOf(member.user, NAME_MAX));
    setText(this.#more.face, `+${count > 999 ? "999" : count}`);
    setText(this.#more.tip, `${count} more${names.length > 0 ? `: ${names.join(", ")}${count > names.length ? " …" : ""}` : ""}`);
  }

  /** Looks again when the grace of the next one is over. */
  #again(now_ms: number): void {
    clearTimeout(this.#timer);
    const ends = this.#faces.flatMap(({ left_at }) => (left_at === null ? [] : [left_at + (this.options.grace_ms ?? GRACE_MS) - now_ms]));
    if (ends.length > 0) this.#timer = setTimeout(() => this.#show(), Math.max(50, Math.min(...ends)));
  }
}

/** One face in the row. */
class Item {
  readonly item: HTMLElement;
  readonly #face: HTMLElement;
  readonly #letters = element("span", "");
  readonly #tip = element("span", "tip");
  #member: Member | null = null;

  constructor(choose: ((member: Member) => void) | undefined) {
    this.#letters.setAttribute("aria-hidden", "true");
    this.#tip.dir = "auto";
    if (choose) {
      const button = element("button", "face", this.#letters);
      button.type = "button";
      button.addEventListener("click", () => this.#member && choose(this.#member));
      this.#face = button;
      this.#tip.setAttribute("aria-hidden", "true");
    } else {
      this.#face = element("span", "face", this.#letters);
    }
    this.item = element("li", "item", this.#face, this.#tip);
  }

  show({ member, self, dim, left_at }: Face): void {
    this.#member = left_at === null ? member : null;
    const { fill, text } = colors(member.user.color);
    const name = nameOf(member.user, NAME_MAX);
    const doing = left_at !== null ? " (left)" : self ? " (you)" : member.away ? " (reconnecting)" : ownOf(member).idle ? " (away)" : "";
    const letters = initials(name);
    setText(this.#letters, letters);
    setText(this.#tip, name + doing);
    if (this.#face instanceof HTMLButtonElement) this.#face.setAttribute("aria-label", name + doing);
    this.#face.style.setProperty("--fill", fill);
    this.#face.style.setProperty("--ink", text);
    this.#face.classList.toggle("picture", /\p{Extended_Pictographic}|\p{Regional_Indicator}/u.test(letters));
    this.item.classList.toggle("dim", dim);
    this.item.classList.toggle("gone", left_at !== null);
  }
}
