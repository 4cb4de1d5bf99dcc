import { useMyPresence, useOther, useOthers } from "./room";

/** A note per member, which goes when its member goes. */
export function Notes() {
  const [mine, set] = useMyPresence();
  // The list renders again when somebody comes or goes, not when somebody writes.
  const ids = useOthers((others) => others.map(({ id }) => id));
  return (
    <ul className="notes">
      <li>
        <textarea aria-label="Your note" placeholder="Your note" maxLength={500} value={mine.note ?? ""} onChange={(event) => set({ note: event.target.value })} />
      </li>
      {ids.map((id) => <Note key={id} id={id} />)}
    </ul>
  );
}

function Note({ id }: { id: string }) {
  const user = useOther(id, ({ user }) => user);
  // States come from strangers: what should be a text may be anything.
  const note = useOther(id, ({ state }) => (typeof state?.note === "string" ? state.note : ""));
  if (!user || !note) return null;
  return (
    <li style={{ borderColor: `hsl(${user.color} 70% 45%)` }}>
      <p>{note.slice(0, 500)}</p>
      <small>{user.name || "Somebody"}</small>
    </li>
  );
}
