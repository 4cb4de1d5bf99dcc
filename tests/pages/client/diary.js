// A page that uses the client as any page would, and keeps a diary of everything that it is told.
// The harness loads the client before it, from a node.

/**
 * Enters a room. `connect` is passed on; `tokens` are given out one per connection, the last one for
 * ever. The result is `window.visit`, which tests read and drive.
 */
window.enter = ({ room: name, user, state, connect = {}, tokens }) => {
  const diary = [];
  const note = (what, more = {}) => diary.push({ at: Date.now(), what, ...more });
  const about = ({ id, node, away, state }) => ({ id, node, away, state });

  const asked = [];
  const token = () => {
    asked.push(tokens.length > 1 ? tokens.shift() : tokens[0]);
    return Promise.resolve(asked.at(-1));
  };
  const client = cursormesh.connect(tokens ? { ...connect, token } : connect);
  const room = client.room(name, { user, state });

  client.on("status", (status) => note(status.state, { node: status.node, code: status.reason?.code, why: status.reason?.why }));
  for (const what of ["ready", "recovered", "rebuilt", "lost", "restored", "dropped", "error", "ended"]) {
    room.on(what, (event) => note(what, event));
  }
  room.presence.on("joined", ({ member, initial }) => note("joined", { ...about(member), initial }));
  room.presence.on("updated", ({ member }) => note("updated", about(member)));
  room.presence.on("left", ({ member, reason }) => note("left", { ...about(member), reason }));

  /** What was heard, by sender, in the order in which it came. */
  const heard = {};
  room.events.on("count", ({ data, from }) => (heard[from] ??= []).push(data));
  /** Where each cursor was last, and how many positions came. */
  const cursors = {};
  room.cursors.on(({ member, x, y }) => {
    cursors[member.id] = { x, y, moves: (cursors[member.id]?.moves ?? 0) + 1, at: Date.now(), name: member.user.name };
  });

  let said = 0;
  let moved = 0;
  const stops = [];
  const every = (ms, fn) => {
    const id = setInterval(fn, ms);
    stops.push(() => clearInterval(id));
  };
  window.visit = {
    client, room, diary, heard, cursors, asked,
    get id() { return room.me.member?.id; },
    get said() { return said; },
    get moved() { return moved; },
    /** Counts aloud, so that a gap, a repetition or a wrong order shows. */
    speak: (ms) => every(ms, () => { if (room.events.send("count", said + 1)) said += 1; }),
    /** Moves to the right, a pixel at a time. */
    move: (ms) => every(ms, () => room.cursors.set((moved += 1), 7)),
    rest: () => { for (const stop of stops.splice(0)) stop(); },
  };
  return new Promise((resolve) => (room.joined ? resolve() : room.on("ready", () => resolve())));
};
