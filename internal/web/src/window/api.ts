// What the page asks berth, and how it proves that it may.
import type { Abilities, Client, Event, LoginStep, Recording, Resource, Snapshot } from "./types";

// Failure is an answer that is an error: what happened, and the next step.
export class Failure extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint = "",
  ) {
    super(message);
  }
}

export const failure = (err: unknown): Failure =>
  err instanceof Failure ? err : new Failure("failed", "berth does not answer", "Open the window again.");

let key = "";

// version is that of the program that serves the page.
export let version = "";

interface Opened {
  key: string;
  version: string;
}

function opened(o: Opened): void {
  ({ key, version } = o);
}

// take takes the token out of the link that opened the page, and out of the history:
// it is worth nothing from now on. A page that is loaded again has none.
export function take(): string | undefined {
  const fragment = location.hash.slice(1);
  if (fragment === "" || fragment.startsWith("/")) return undefined;
  const [token, path] = fragment.split("&", 2);
  const route = `/${(path ?? "tunnels").replace(/^\/+/, "")}`;
  history.replaceState(null, "", `#${route}`);
  return token;
}

// open exchanges a link's token for the session's cookie and key; without a token the
// cookie is there already.
export async function open(token: string | undefined): Promise<void> {
  opened(token === undefined ? await read<Opened>("/api/key") : await write<Opened>("/api/open", { token }));
}

const send = (path: string, body: unknown, signal?: AbortSignal): Promise<Response> =>
  fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Berth-Key": key },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });

async function answer<T>(response: Response): Promise<T> {
  const text = await response.text();
  if (response.ok) return (text === "" ? {} : JSON.parse(text)) as T;
  let said: { code?: string; message?: string; hint?: string };
  try {
    said = JSON.parse(text) as typeof said;
  } catch {
    said = { message: response.status === 404 ? "This version of berth does not offer that here." : text.trim() };
  }
  throw new Failure(said.code ?? String(response.status), said.message ?? "", said.hint);
}

export const read = async <T>(path: string): Promise<T> => answer<T>(await fetch(path));
export const write = async <T>(path: string, body: unknown): Promise<T> => answer<T>(await send(path, body));
export const call = <T = unknown>(rpc: string, request: unknown): Promise<T> => write<T>(`/api/call/${rpc}`, request);

const query = (values: Record<string, string>): string =>
  new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "")).toString();
const named = (name: string): string => `/api/tunnels/${encodeURIComponent(name)}`;

// Forms are the ways to write down where a tunnel is, and the usual client's command.
export interface Forms {
  urls?: { name: string; text: string }[];
  client?: string;
}

// Plot is the last hour of a tunnel, a column for each quantity.
export interface Plot {
  at: number[]; // seconds since the epoch
  connections: number[];
  bytesIn: number[]; // a second
  bytesOut: number[];
  heldMs: number[]; // the longest
  dialMs: number[];
}

export interface Finding {
  check: string;
  name: string; // apart from the others of its check
  status: string;
  text: string;
  fix?: string;
  fixed?: string;
  mendable?: boolean;
}

// Kept is a setting as the config has it.
export interface Kept {
  key: string;
  title: string;
  help?: string;
  kind: "switch" | "choice" | "text";
  choices?: { value: string; words: string }[];
  value: string;
  line?: number;
}

// Topic is a page of help.
export interface Topic {
  name: string;
  title: string;
  text: string;
}

export const api = {
  abilities: (profile: string, resources: string[]) =>
    read<Abilities>(`/api/requests?${query({ profile })}${resources.map((r) => `&resource=${encodeURIComponent(r)}`).join("")}`),
  resources: () => read<{ resources?: Resource[]; unasked?: string[] }>("/api/resources"),
  history: (name: string) => read<{ events?: Event[] }>(`${named(name)}/history`),
  forms: (name: string) => read<Forms>(`${named(name)}/urls`),
  plot: (name: string) => read<Plot>(`${named(name)}/plot`),
  plots: (names: string[]) => read<Record<string, number[]>>(`/api/plots?${names.map((n) => `tunnel=${encodeURIComponent(n)}`).join("&")}`),
  clients: () => read<{ clients?: Client[] }>("/api/clients"),
  recordings: (filter: Record<string, string>) =>
    read<{ recordings?: Recording[]; notes?: string[]; more?: boolean }>(`/api/recordings?${query(filter)}`),
  recording: (id: string, cluster: string) => `/api/recordings/${encodeURIComponent(id)}?${query({ cluster })}`,
  log: (lines: string) => read<{ path: string; lines: string[] }>(`/api/log?lines=${lines}`),
  config: () => read<{ path: string; text: string; settings: Kept[] }>("/api/config"),
  link: (verb: string, to: string) => read<{ link: string }>(`/api/link?${query({ verb, to })}`),
  topics: () => read<{ topics: Topic[] }>("/api/topics"),
  licenses: () => read<{ text: string }>("/api/licenses"),
  doctor: () => read<{ findings: Finding[] }>("/api/doctor"),
};

// Said is what the stream says: a snapshot's text, that the agent is away, or that berth
// no longer serves this page.
type Said =
  | { kind: "snapshot"; text: string }
  | { kind: "away" | "ended"; message: string; hint: string };

// follow shows each snapshot, and each time that the agent is away. ended is called when
// berth no longer serves this page.
//
// All tabs of a session share one stream: it holds one of the six connections that
// browsers allow to a host. The tab that has the lock reads it for all. When that tab
// goes, however it goes, the browser gives the lock to another.
export function follow(on: {
  snapshot: (s: Snapshot) => void;
  away: (message: string, hint: string) => void;
  ended: (message: string) => void;
}): void {
  const name = `berth ${key}`;
  const channel = new BroadcastChannel(name);
  const over = new AbortController();
  let latest: Said | undefined; // of the stream that this tab reads
  const take = (said: Said): void => {
    if (said.kind === "snapshot") on.snapshot(JSON.parse(said.text) as Snapshot);
    else if (said.kind === "away") on.away(said.message, said.hint);
    else {
      over.abort();
      channel.close();
      on.ended(said.message);
    }
  };
  channel.onmessage = ({ data }: MessageEvent<Said | "what is new?">) => {
    if (data !== "what is new?") take(data);
    else if (latest) channel.postMessage(latest);
  };
  const lead = (): Promise<void> =>
    listen((said) => {
      latest = said;
      channel.postMessage(said);
      take(said);
    });
  navigator.locks.request(name, { signal: over.signal }, lead).catch(() => undefined); // it has ended
  channel.postMessage("what is new?");
}

// listen reads the stream until berth no longer serves this page.
function listen(say: (said: Said) => void): Promise<void> {
  return new Promise((done) => {
    const source = new EventSource("/api/snapshot/stream");
    let failed = 0;
    const end = (message = ""): void => {
      source.close();
      say({ kind: "ended", message, hint: "" });
      done();
    };
    source.onopen = () => {
      failed = 0;
    };
    source.onmessage = (e: MessageEvent<string>) => {
      say({ kind: "snapshot", text: e.data });
    };
    const told = (e: MessageEvent<string>): { message: string; hint: string } => JSON.parse(e.data) as { message: string; hint: string };
    source.addEventListener("away", (e) => {
      say({ kind: "away", ...told(e as MessageEvent<string>) });
    });
    source.addEventListener("closed", (e) => {
      end(told(e as MessageEvent<string>).message);
    });
    source.onerror = () => {
      // A server that has gone does not come back on this port: the browser's second
      // try is the last one. No timer, since those of a hidden tab are late by a minute.
      if (source.readyState === EventSource.CLOSED || ++failed > 1) end();
    };
  });
}

// LoginRequest says where to log in, and how.
export interface LoginRequest {
  proxy?: string;
  user?: string;
  auth?: string;
  renew?: boolean;
  remember?: boolean;
}

// Login is a login that this page takes part in.
export class Login {
  private id = "";
  private readonly gone = new AbortController();

  // run logs in, showing each step; it returns when that is done.
  async run(request: LoginRequest, show: (step: LoginStep) => void): Promise<void> {
    const response = await send("/api/login", request, this.gone.signal);
    if (!response.ok || !response.body) {
      await answer(response);
      return;
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Failure("failed", "The login ended without an answer.");
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const said = JSON.parse(line) as { login: string; event?: LoginStep; error?: Failure };
        this.id = said.login;
        if (said.error) throw new Failure(said.error.code, said.error.message, said.error.hint);
        if (said.event) show(said.event);
        if (said.event?.kind === "done") return;
      }
    }
  }

  answer(step: LoginStep, secret: string): Promise<unknown> {
    return write(`/api/login/${encodeURIComponent(this.id)}/answer`, { id: Number(step.id ?? 0), secret });
  }

  // leave takes no further part in it.
  leave(): void {
    this.gone.abort();
  }
}
