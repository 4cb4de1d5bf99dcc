import { useEffect } from "react";
import type { Room } from "../api";
import type * as Ui from "../ui";
import { usePlace } from "./context";

/** Something that draws until it is stopped. */
interface Drawn {
  stop(): void;
}

/**
 * Draws while the component is mounted and there is a room, and anew when `draw` is another function.
 * The part of the client that draws is fetched when the first component asks for it.
 */
export function useDrawing(who: string, draw: (ui: typeof Ui, room: Room) => Drawn | null): void {
  const { shared } = usePlace(who);
  useEffect(
    () =>
      shared.attach((room) => {
        let drawn: Drawn | null = null;
        let over = false;
        import("../ui").then((ui) => {
          if (!over) drawn = draw(ui, room);
        }).catch(report);
        return () => {
          over = true;
          drawn?.stop();
        };
      }),
    [shared, draw],
  );
}

/** What draws could not be had, or the options are none that it takes. */
function report(error: unknown): void {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}
