// What was started is ended, last first, also after a test that failed half-way.

/** Takes what is to be done when the test `t` ends, in reverse order, each whatever becomes of the others. */
export function endings(t) {
  const all = [];
  t.after(async () => {
    for (const end of all.reverse()) await Promise.resolve().then(end).catch((error) => t.diagnostic(`not ended: ${error}`));
  });
  return (end) => void all.push(end);
}
