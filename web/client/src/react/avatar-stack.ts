import { createElement, useCallback, useRef, type CSSProperties, type ReactElement } from "react";
import type { AvatarOptions } from "../ui";
import { useDrawing } from "./drawing";
import { useSteady } from "./steady";

/** The options of `avatars` in `cursormesh/ui`; functions in them may be new in each render. */
export interface AvatarStackProps extends AvatarOptions {
  /** Of the `div` that the faces are in; there is none where `corner` is given. */
  className?: string;
  style?: CSSProperties;
}

/** A row of faces: who is in the room. Where it stands, or in a `corner` of the window. */
export function AvatarStack({ className, style, ...options }: AvatarStackProps): ReactElement | null {
  const element = useRef<HTMLDivElement | null>(null);
  const steady = useSteady(options);
  const draw = useCallback<Parameters<typeof useDrawing>[1]>((ui, room) => ui.avatars(room, element.current, steady), [steady]);
  useDrawing("AvatarStack", draw);
  return options.corner === undefined ? createElement("div", { ref: element, className, style }) : null;
}
