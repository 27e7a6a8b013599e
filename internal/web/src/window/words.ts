// How values read.

export const count = (value: string | number | undefined): number => Number(value ?? 0);

// many counts things: "1 tunnel", "3 tunnels".
export const many = (n: number, one: string, more = `${one}s`): string => `${n} ${n === 1 ? one : more}`;

// apart keeps what others wrote from moving the words around it: a text with letters that
// are written from right to left is put between isolates.
export const apart = (text: string): string => (/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(text) ? `\u2068${text}\u2069` : text);

// span is how long something takes, in its two largest units.
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m} min`;
  const h = Math.floor(m / 60);
  if (h < 48) return m % 60 ? `${h} h ${m % 60} min` : `${h} h`;
  return many(Math.floor(h / 24), "day");
}

export const left = (until: string, now: number): string => span(Date.parse(until) - now);
export const ago = (at: string, now: number): string => `${span(now - Date.parse(at))} ago`;

// clock is the time of the day, with the date where that is another day.
export function clock(at: string): string {
  const t = new Date(at);
  const time = t.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return t.toDateString() === new Date().toDateString() ? time : `${t.toLocaleDateString()} ${time}`;
}

export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let unit = -1;
  do {
    n /= 1000;
    unit++;
  } while (n >= 999.5 && unit < units.length - 1);
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit] ?? ""}`;
}

// seconds reads a duration of protojson, "90s".
export const seconds = (duration: string | undefined): number | undefined =>
  duration === undefined ? undefined : Number.parseFloat(duration);

// latency is how long a way to the proxy takes; empty while that is not known.
export function latency(t: { latency?: string }): string {
  const ms = (seconds(t.latency) ?? 0) * 1000;
  if (ms === 0) return "";
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

export const stateWords: Record<string, string> = {
  ready: "Ready",
  connecting: "Connecting",
  waiting_for_login: "Waiting for login",
  port_in_use: "Port in use",
  error: "Error",
  stopped: "Stopped",
  valid: "Logged in",
  expiring: "Expires soon",
  expired: "Expired",
  logged_out: "Logged out",
  pending: "Pending",
  approved: "Approved",
  denied: "Denied",
  promoted: "Promoted",
  ok: "Fine",
  warn: "Look at this",
  fail: "Does not work",
  skip: "Not checked",
};

export const stateWord = (state: string): string => stateWords[state] ?? state.replaceAll("_", " ");

const resourceName = (id: string): string => id.split("/").slice(2).join(" ") || id;

// whatOf says what a request is for.
export const whatOf = (r: { roles?: string[]; resources?: string[] }): string =>
  [...(r.roles ?? []), ...(r.resources ?? []).map(resourceName)].map(apart).join(", ");

export const kindWords: Record<string, string> = { db: "database", kube: "Kubernetes" };

// sentence writes what berth says of a failure as a sentence.
export function sentence(text: string): string {
  const said = text.trim();
  if (said === "") return "";
  return said.charAt(0).toUpperCase() + said.slice(1) + (/[.!?:…]$/.test(said) ? "" : ".");
}

// matches is the search as one types: every word is somewhere in the text.
export function matches(query: string, ...text: (string | undefined)[]): boolean {
  const all = text.join(" ").toLowerCase();
  return query
    .toLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word));
}
