import { render } from "preact";
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { line } from "./clean";
import { Recording } from "./data";
import { Events } from "./events";
import { Player, speeds } from "./player";
import { SeekBar, clock } from "./seekbar";
import { TerminalView } from "./terminal";
import { isEnhanced } from "./timeline";
import "./style.css";

const keys: [string, string][] = [
  ["space", "play, pause"], ["← →", "5 seconds back or forth; with shift a minute"], ["0–9", "go to a tenth"],
  ["+ −", "faster, slower"], ["i", "skip idle time"], ["/ n N", "search; next and previous match"],
  ["e E", "next and previous command or query"], ["m M", "next and previous mark"], ["d", "dark or light"], ["?", "these keys"],
];

// press obeys a key and reports whether it is one of the player's.
function press(player: Player, key: string, shift: boolean): boolean {
  const far = shift ? 60_000 : 5000;
  switch (key) {
    case " ": player.toggle(); return true;
    case "ArrowLeft": player.seek(player.at - far); return true;
    case "ArrowRight": player.seek(player.at + far); return true;
    case "Home": player.seek(0); return true;
    case "End": player.seek(player.duration); return true;
    case "+": case "=": player.faster(1); return true;
    case "-": case "_": player.faster(-1); return true;
    case "i": player.setSkipIdle(!player.skipIdle); return true;
    case "n": case "N": player.nextHit(key === "n"); return true;
    case "e": case "E": player.nextMark(key === "e", isEnhanced); return true;
    case "m": case "M": player.nextMark(key === "m", () => true); return true;
  }
  if (/^[0-9]$/.test(key)) {
    player.seek((player.duration * Number(key)) / 10);
    return true;
  }
  return false;
}

function Search({ player }: { player: Player }) {
  const [text, setText] = useState("");
  const { hits, say, searching, query } = player;
  return (
    <form
      class="search" role="search"
      onSubmit={(e) => {
        e.preventDefault();
        if (text === query && hits.length > 0) {
          player.nextHit(true);
        } else {
          void player.find(text);
        }
      }}
    >
      <input
        type="search" id="search" placeholder="Search the screen  /" aria-label="Search in what was on the screen" value={text}
        onInput={(e) => {
          setText(e.currentTarget.value);
          if (e.currentTarget.value === "") {
            void player.find("");
          }
        }}
      />
      <button type="button" disabled={hits.length === 0} aria-label="Previous match" onClick={() => { player.nextHit(false); }}>↑</button>
      <button type="button" disabled={hits.length === 0} aria-label="Next match" onClick={() => { player.nextHit(true); }}>↓</button>
      <span id="found" role="status">
        {query !== "" && (say === "not found" ? say : `${hits.length}${searching ? "…" : ""} ${hits.length === 1 ? "match" : "matches"}${say && `, ${say}`}`)}
      </span>
    </form>
  );
}

function Controls({ player, theme }: { player: Player; theme: string }) {
  return (
    <footer class="controls">
      <SeekBar player={player} theme={theme} />
      <div class="buttons">
        <button type="button" id="play" class="primary" onClick={() => { player.toggle(); }} aria-label={player.playing ? "Pause" : "Play"}>
          {player.playing ? "❚❚" : "▶"}
        </button>
        <span id="time">{clock(player.at)} / {clock(player.duration)}</span>
        <label>
          Speed{" "}
          <select id="speed" value={player.speed} onChange={(e) => { player.setSpeed(Number(e.currentTarget.value)); }}>
            {speeds.map((s) => <option key={s} value={s}>{s}×</option>)}
          </select>
        </label>
        <label>
          <input type="checkbox" id="idle" checked={player.skipIdle} onChange={(e) => { player.setSkipIdle(e.currentTarget.checked); }} /> Skip idle time
        </label>
        {player.recording.total.printed > 0 && <Search player={player} />}
      </div>
    </footer>
  );
}

function Heading({ recording, theme, setTheme, help }: { recording: Recording; theme: string; setTheme: (t: string) => void; help: () => void }) {
  const h = recording.header;
  return (
    <header class="top">
      <div>
        <h1>{line(h.title)}</h1>
        <p>
          Exported by {line(h.exported_by)} on {line(h.exported_at).replace("T", " ").replace("Z", " UTC")} · session {line(h.recording.id)}
          {h.redacted && <strong> · parts are masked</strong>}
        </p>
      </div>
      <button type="button" onClick={help} aria-label="Keys and licences">?</button>
      <button type="button" id="theme" onClick={() => { setTheme(theme === "dark" ? "light" : "dark"); }}>{theme === "dark" ? "Light" : "Dark"}</button>
    </header>
  );
}

function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} onClose={close} aria-label="Keys and licences">
      <h2>Keys</h2>
      <table>
        <tbody>{keys.map(([key, what]) => <tr key={key}><th scope="row">{key}</th><td>{what}</td></tr>)}</tbody>
      </table>
      <details>
        <summary>Licences of what is in this page</summary>
        <pre tabIndex={0}>{document.getElementById("licences")?.textContent}</pre>
      </details>
      <form method="dialog"><button type="submit">Close</button></form>
    </dialog>
  );
}

function Page({ recording }: { recording: Recording }) {
  const [, changed] = useReducer((n: number) => n + 1, 0);
  const held = useRef<Player>(null);
  const player = (held.current ??= new Player(recording, () => { changed(undefined); }));
  const [theme, setTheme] = useState(() => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  const [help, setHelp] = useState(false);
  useEffect(() => {
    void player.run();
  }, [player]);
  useEffect(() => {
    document.documentElement.style.colorScheme = theme;
  }, [theme]);
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      const field = e.target instanceof HTMLElement ? e.target.closest('input:not([type="range"], [type="checkbox"]), select, dialog') : null;
      if (field instanceof HTMLElement) {
        if (e.key === "Escape" && !(field instanceof HTMLDialogElement)) {
          field.blur();
          e.preventDefault(); // Firefox empties the field, and with it go the matches
        }
        return;
      }
      if (e.ctrlKey || e.altKey || e.metaKey || (e.key === " " && e.target instanceof HTMLButtonElement)) {
        return;
      }
      if (e.key === "/") {
        document.getElementById("search")?.focus();
      } else if (e.key === "d") {
        setTheme((t) => (t === "dark" ? "light" : "dark"));
      } else if (e.key === "?") {
        setHelp(true);
      } else if (!press(player, e.key, e.shiftKey)) {
        return;
      }
      e.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => {
      removeEventListener("keydown", onKey);
    };
  }, [player]);
  const printed = recording.total.printed > 0;
  return (
    <div class={`page${printed ? "" : " quiet"}`} data-done={player.timeline.done} data-seeking={player.seeking} data-at={Math.floor(player.at)}>
      <Heading recording={recording} theme={theme} setTheme={setTheme} help={() => { setHelp(true); }} />
      {player.failed && <p class="failed" role="alert">{line(player.failed)}</p>}
      {recording.total.cut && <p class="failed" role="alert">This is not the whole recording: its end is missing.</p>}
      {!printed && recording.header.recording.kind !== "db" && <p class="note">Nothing that this session printed was recorded.</p>}
      <main>
        {printed && <TerminalView screen={player.screen} query={player.query} />}
        <Events player={player} />
      </main>
      {recording.total.duration_ms > 0 && <Controls player={player} theme={theme} />}
      {help && <Help close={() => { setHelp(false); }} />}
    </div>
  );
}

const app = document.getElementById("app");
if (app) {
  const recording = Recording.find();
  if (recording) {
    document.title = line(recording.header.title);
    render(<Page recording={recording} />, app);
  } else {
    render(<p class="failed" role="alert">There is no recording in this page, or the file is not whole.</p>, app);
  }
}
