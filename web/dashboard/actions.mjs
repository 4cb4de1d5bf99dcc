// What can be done to a mesh that was started with --dev, and which nodes have to be told.

/** Whom to tell what: [{node, action, body}]; empty if nobody who would have to act can be asked. */
export function plan(mesh, views, wish) {
  const cutting = (name, peer) => views.some(({ node, cuts }) => node === name && cuts.includes(peer));
  const answers = (name) => mesh.answering.includes(name);
  const { a, b } = wish;
  switch (wish.kind) {
    case "cut": {
      // One end suffices; the node that served this page is the nearest.
      const [near, far] = b === mesh.home ? [b, a] : [a, b];
      if (answers(near)) return [{ node: near, action: "cut", body: { peer: far } }];
      return answers(far) ? [{ node: far, action: "cut", body: { peer: near } }] : [];
    }
    case "heal":
      return [[a, b], [b, a]].filter(([node, peer]) => cutting(node, peer))
        .map(([node, peer]) => ({ node, action: "heal", body: { peer } }));
    case "heal-all":
      return views.filter(({ cuts }) => cuts.length).map(({ node }) => ({ node, action: "heal", body: {} }));
    case "stop":
      return answers(wish.node) ? [{ node: wish.node, action: "stop", body: {} }] : [];
    default:
      return [];
  }
}

const TIMEOUT_MS = 5000;

/** Tells a node what to do; the error's message says why it would not. */
export async function tell(base, { node, action, body }) {
  let response;
  try {
    response = await fetch(new URL(`api/dev/${action}`, base), {
      method: "POST",
      headers: { "content-type": "application/json", "x-cursormesh-dev": "1" },
      body: JSON.stringify(body),
      credentials: "omit",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new Error(`${node} could not be asked.`);
  }
  if (response.ok) return;
  const reason = await response.json().then(({ error }) => (typeof error === "string" ? error.slice(0, 200) : ""), () => "");
  throw new Error(`${node} refused (${response.status})${reason ? `: ${reason}` : "."}`);
}
