// Cursors, faces and names on a plain page. `?node=` says where the node is, `?room=` which room.
import { connect } from "cursormesh";
import { avatars, render } from "cursormesh/ui";

const asked = new URLSearchParams(location.search);
const element = (id) => document.getElementById(id);
const name = element("name");
name.value = localStorage.getItem("name") ?? `Guest ${Math.floor(Math.random() * 1000)}`;

const client = connect({ url: asked.get("node") ?? "http://localhost:7071" });
const room = client.room(asked.get("room") ?? "vanilla", { user: { name: name.value } });

render(room, element("board"));
avatars(room, element("faces"));

name.addEventListener("input", () => {
  localStorage.setItem("name", name.value);
  room.me.setUser({ name: name.value });
});

client.on("status", ({ state }) => {
  element("status").textContent = state;
});

// Names come from strangers: they are text, never markup.
room.on("others", (others) => {
  element("people").replaceChildren(...others.map(({ user, node }) => {
    const item = document.createElement("li");
    item.textContent = `${user.name || "Somebody"} is here, on ${node}`;
    return item;
  }));
});
