import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { CursormeshProvider } from "cursormesh/react";
import { Board } from "./Board";
import { RoomProvider } from "./room";
import "./style.css";

// `?node=` says where the node is, `?room=` which room.
const asked = new URLSearchParams(location.search);

function App() {
  const [name, setName] = useState(() => localStorage.getItem("name") ?? `Guest ${Math.floor(Math.random() * 1000)}`);
  const rename = (name: string) => {
    localStorage.setItem("name", name);
    setName(name);
  };
  return (
    <CursormeshProvider url={asked.get("node") ?? "http://localhost:7071"} user={{ name }}>
      <RoomProvider name={asked.get("room") ?? "board"} state={{ note: "" }}>
        <Board name={name} rename={rename} />
      </RoomProvider>
    </CursormeshProvider>
  );
}

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
