import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Access, NewRequest, OneRequest } from "./access";
import { Add } from "./add";
import { type Failure, failure, follow, open, take, write } from "./api";
import { Logins } from "./login";
import { needCount } from "./needs";
import { Recordings } from "./recordings";
import { Sessions } from "./sessions";
import { go, hush, set, snapshot, useKnown, useRoute } from "./store";
import "./style.css";
import { About, Doctor, Log, Settings } from "./system";
import { TunnelView } from "./tunnel";
import { Tunnels } from "./tunnels";
import { Button, Dialog, Mark } from "./ui";
import names from "./views.json";
import { sentence } from "./words";

const views = Object.entries(names);

// within says of views without a line of their own under which they are.
const within: Record<string, string> = { add: "tunnels", help: "about" };

function View({ route }: { route: string[] }) {
  const [view, name] = route;
  switch (view) {
    case "add":
      return <Add />;
    case "access":
      if (!name) return <Access />;
      return name === "new" ? <NewRequest /> : <OneRequest key={name} id={name} />;
    case "sessions":
      return <Sessions />;
    case "recordings":
      return <Recordings />;
    case "doctor":
      return <Doctor />;
    case "log":
      return <Log />;
    case "settings":
      return <Settings />;
    case "about":
    case "help":
      return <About />;
    default:
      return name ? <TunnelView name={name} /> : <Tunnels />;
  }
}

function Page() {
  const known = useKnown();
  const route = useRoute();
  const [help, showHelp] = useState(false);
  useKeys(() => {
    showHelp(true);
  });
  const here = within[route[0] ?? ""] ?? route[0] ?? "";
  const title = views.find(([path]) => path === here)?.[1] ?? "berth";
  const needs = known.snapshot ? needCount(known.snapshot) : 0;
  const there = known.snapshot !== undefined;
  useEffect(() => {
    document.title = `${needs ? `(${needs}) ` : ""}${route[1] ?? title} – berth`;
  }, [title, route[1], needs]);
  useEffect(() => {
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [here]);
  useEffect(() => {
    if (there) document.querySelector<HTMLElement>("main h1")?.focus();
  }, [route.join("/"), there]);
  return (
    <>
      <nav aria-label="berth">
        <ul>
          {views.map(([path, label]) => (
            <li key={path}>
              <a href={`#/${path}`} aria-current={path === here ? "page" : undefined}>
                {label}
                {path === "tunnels" && needs > 0 && <span class="badge" title={`${needs} need you`}>{needs}<span class="hidden"> need you</span></span>}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <main>
        {known.ended !== undefined && (
          <p class="banner" role="alert"><Mark state="error" /> {known.ended || "This page is no longer connected. Open it again: from the tray’s menu, or with “berth open”."}</p>
        )}
        {known.away && known.ended === undefined && (
          <div class="banner head" role="alert">
            <span><Mark state="error" /> {sentence(known.away.message)} {sentence(known.away.hint)}</span>
            <span class="buttons"><Button kind="main" onPress={() => write("/api/agent/start", {})}>Start the agent</Button></span>
          </div>
        )}
        {known.snapshot?.policy?.banner && <p class="banner calm">{known.snapshot.policy.banner}</p>}
        {there && <View route={route} />}
        {!there && !known.away && known.ended === undefined && <p class="dim" role="status">Asking the agent…</p>}
      </main>
      <Logins />
      <Toasts />
      {help && <Keys close={() => {
        showHelp(false);
      }} />}
    </>
  );
}

function Toasts() {
  const { toasts } = useKnown();
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.map((t) => (
        <p key={t.id} class={t.bad ? "toast bad" : "toast"}>
          <Mark state={t.bad ? "error" : "ready"} />
          <span>{t.text} {t.hint && <span class="hint">{t.hint}</span>}</span>
          {t.undo && (
            <button type="button" onClick={() => {
              t.undo?.();
              hush(t.id);
            }}>Undo</button>
          )}
          <button type="button" class="plain" aria-label="Close this message" onClick={() => {
            hush(t.id);
          }}>×</button>
        </p>
      ))}
    </div>
  );
}

const keys: [key: string, what: string][] = [
  ["/", "Search"],
  ["j k, ↓ ↑", "Next and previous row"],
  ["Enter", "Open the row"],
  ["c", "Copy the row's address"],
  ["n", "Add a tunnel"],
  ["1 – 8", "Go to a view"],
  ["?", "These keys"],
];

function Keys({ close }: { close: () => void }) {
  return (
    <Dialog title="Keys" close={close}>
      <dl class="keys">{keys.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
    </Dialog>
  );
}

function useKeys(help: () => void): void {
  useEffect(() => {
    const pressed = (e: KeyboardEvent): void => {
      const typing = e.target instanceof Element && e.target.closest("input, textarea, select, pre");
      if (typing || e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
      const view = views[Number(e.key) - 1];
      if (e.key === "/") document.querySelector<HTMLElement>(".search")?.focus();
      else if (e.key === "?") help();
      else if (e.key === "n") go("/add");
      else if (view) go(`/${view[0]}`);
      else if (e.key === "c") document.activeElement?.closest(".row")?.querySelector<HTMLElement>("button.plain")?.click();
      else if (e.key === "j" || e.key === "ArrowDown") step(1);
      else if (e.key === "k" || e.key === "ArrowUp") step(-1);
      else return;
      e.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => {
      removeEventListener("keydown", pressed);
    };
  }, []);
}

// step moves to another row of a list.
function step(by: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>("[data-row]")];
  const at = rows.findIndex((row) => row === document.activeElement);
  rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))]?.focus();
}

function Refused({ why }: { why: Failure }) {
  return (
    <main>
      <h1>berth</h1>
      <p class="banner" role="alert"><Mark state="error" /> {sentence(why.message)} {sentence(why.hint)}</p>
    </main>
  );
}

async function start(app: HTMLElement): Promise<void> {
  try {
    await open(take()); // meanwhile the browser paints what index.html has
  } catch (err) {
    render(<Refused why={failure(err)} />, app);
    return;
  }
  render(<Page />, app);
  follow({
    snapshot,
    away: (message, hint) => {
      set({ away: { message, hint } });
    },
    ended: (message) => {
      set({ ended: message });
    },
  });
}

// A link that is opened where the page is open already.
addEventListener("hashchange", () => {
  if (location.hash.length > 1 && !location.hash.startsWith("#/")) location.reload();
});

const app = document.getElementById("app");
if (app) void start(app);
