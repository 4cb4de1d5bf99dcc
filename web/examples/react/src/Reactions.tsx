import { useState } from "react";
import { useBroadcast, useEvent } from "./room";

const EMOJI = ["👍", "🎉", "❤️"];

/** How often everybody here reacted, since this page is open. */
export function Reactions() {
  const [counts, setCounts] = useState<Record<string, number>>({});
  const send = useBroadcast();
  useEvent("reaction", ({ data }) => {
    const emoji = EMOJI.find((one) => one === data?.emoji);
    if (emoji) setCounts((counts) => ({ ...counts, [emoji]: (counts[emoji] ?? 0) + 1 }));
  });
  return (
    <p className="reactions">
      {EMOJI.map((emoji) => (
        <button key={emoji} type="button" onClick={() => send("reaction", { emoji })}>
          {emoji} {counts[emoji] ?? 0}
        </button>
      ))}
    </p>
  );
}
