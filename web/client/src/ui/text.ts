/** Texts of strangers, made fit to be shown: names, chat, reactions. */

/** Control characters, halves of characters, and what turns the direction of the text around it. */
const UNSHOWN = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/gu;
/** Code units of one visible character; more of them are combining marks heaped on one another. */
const GRAPHEME_UNITS_MAX = 24;
const NOBODY = "Guest";

const segmenter = typeof Intl !== "undefined" && "Segmenter" in Intl ? new Intl.Segmenter(undefined, { granularity: "grapheme" }) : null;

/** What people see as characters. */
export function graphemes(text: string): string[] {
  if (!segmenter) return Array.from(text);
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

/** One line of at most `max` visible characters; empty for what is no text. */
export function shown(text: unknown, max: number): string {
  if (typeof text !== "string") return "";
  const line = text.slice(0, max * GRAPHEME_UNITS_MAX).replace(UNSHOWN, " ").replace(/\s+/g, " ").trim();
  if (line.length <= max && !/\p{M}/u.test(line)) return line;
  const all = graphemes(line);
  const kept = all.slice(0, max).map((one) => (one.length > GRAPHEME_UNITS_MAX ? one.slice(0, 1) : one)).join("");
  return all.length > max ? `${kept}…` : kept;
}

/** A name for people; somebody without one is a guest. */
export function nameOf(user: { readonly name: string }, max = 64): string {
  return shown(user.name, max) || NOBODY;
}

/** One or two characters that stand for a name: initials, or the emoji that it begins with. */
export function initials(name: string): string {
  const words = shown(name, 64).split(/[\s_.@-]+/u).flatMap((word) => {
    const first = graphemes(word).find((one) => /[\p{L}\p{N}\p{Extended_Pictographic}\p{Regional_Indicator}]/u.test(one));
    return first === undefined ? [] : [first];
  });
  const [first, last] = [words[0], words.at(-1)];
  if (first === undefined || last === undefined) return initials(NOBODY);
  const picture = /[\p{Extended_Pictographic}\p{Regional_Indicator}]/u;
  if (words.length === 1 || picture.test(first) || picture.test(last)) return first.toLocaleUpperCase();
  return (first + last).toLocaleUpperCase();
}

/** Bytes in UTF-8. */
export function bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}
