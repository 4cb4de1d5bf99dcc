import { AvatarStack, Cursors, useConnectionStatus } from "cursormesh/react";
import { Notes } from "./Notes";
import { Reactions } from "./Reactions";

export function Board({ name, rename }: { name: string; rename: (name: string) => void }) {
  return (
    <>
      <header>
        <h1>A board</h1>
        <AvatarStack max={4} />
        <label>
          Your name <input value={name} maxLength={40} onChange={(event) => rename(event.target.value)} />
        </label>
        <Status />
      </header>
      <Cursors className="board">
        <Notes />
        <Reactions />
      </Cursors>
    </>
  );
}

/** A component of its own: nothing else renders again when the connection changes. */
function Status() {
  return <output>{useConnectionStatus().state}</output>;
}
