/** Two colours that can be told apart as text and its background, for every hue. */

/** Contrast of text that WCAG 2.2 asks for at level AA. */
export const CONTRAST_MIN = 4.5;
/** What is computed is rounded to 8 bits per channel on the screen. */
const CONTRAST_AIM = 4.7;
/** White text on a colour darker than this looks muddy; dark text on a lighter one does not. */
const LIGHTNESS_MIN = 0.42;
const DARK = "#15171c";
const DARK_RGB = [0x15 / 255, 0x17 / 255, 0x1c / 255] as const;

export interface Colors {
  /** Of the arrow, the label, the face. */
  readonly fill: string;
  /** Of text on it. */
  readonly text: string;
}

type Rgb = readonly [number, number, number];

const known = new Map<number, Colors>();

/** A hue in whole degrees, 0–359; what is no number is 0. */
export function hueOf(hue: unknown): number {
  return typeof hue === "number" && Number.isFinite(hue) ? ((Math.round(hue) % 360) + 360) % 360 : 0;
}

/** The colours of a hue in degrees; what is no number is 0. */
export function colors(hue: unknown): Colors {
  const whole = hueOf(hue);
  let found = known.get(whole);
  if (!found) known.set(whole, (found = choose(whole)));
  return found;
}

function choose(hue: number): Colors {
  // As light as white text bears.
  for (let lightness = 0.58; lightness >= LIGHTNESS_MIN; lightness -= 0.01) {
    const rgb = hsl(hue, 0.72, lightness);
    if (contrast(rgb, [1, 1, 1]) >= CONTRAST_AIM) return { fill: css(rgb), text: "#ffffff" };
  }
  for (let lightness = 0.48; ; lightness += 0.01) {
    const rgb = hsl(hue, 0.66, lightness);
    if (contrast(rgb, DARK_RGB) >= CONTRAST_AIM) return { fill: css(rgb), text: DARK };
  }
}

function hsl(hue: number, saturation: number, lightness: number): Rgb {
  const reach = saturation * Math.min(lightness, 1 - lightness);
  const channel = (n: number) => {
    const k = (n + hue / 30) % 12;
    return lightness - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1));
  };
  return [channel(0), channel(8), channel(4)];
}

function css(rgb: Rgb): string {
  return `#${rgb.map((one) => Math.round(one * 255).toString(16).padStart(2, "0")).join("")}`;
}

/** Channels from 0 to 1. */
export function contrast(one: Rgb, other: Rgb): number {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(rgb: Rgb): number {
  const [r, g, b] = rgb.map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
