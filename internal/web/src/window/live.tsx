// What the rows of tunnels show besides the snapshot: who is connected, and a small plot
// of the last hour. Both are asked for only while someone can see them.
import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "./api";
import type { Client, Tunnel } from "./types";
import { bytes, count } from "./words";

const clientsEvery = 5_000;

// useClients is who is connected to which tunnel. The agent has to look through the
// system's sockets for it, so it is asked when connections come and go, not more often
// than each few seconds, and not by a hidden page.
export function useClients(tunnels: Tunnel[]): Map<string, Client[]> {
  const [clients, setClients] = useState(new Map<string, Client[]>());
  const turn = tunnels
    .filter((t) => count(t.connections) > 0)
    .map((t) => `${t.tunnelSpec.name} ${count(t.connections)} ${count(t.totalConnections)}`)
    .join("\n");
  const asked = useRef(0);
  useEffect(() => {
    if (turn === "") {
      setClients(new Map());
      return undefined;
    }
    const ask = (): void => {
      if (document.hidden) return;
      asked.current = Date.now();
      api.clients().then(
        ({ clients: all = [] }) => {
          setClients(Map.groupBy(all, (c) => c.tunnel));
        },
        () => undefined, // the counts are there all the same
      );
    };
    const timer = setTimeout(ask, Math.max(0, asked.current + clientsEvery - Date.now()));
    document.addEventListener("visibilitychange", ask);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, [turn]);
  return clients;
}

// programs names who is connected: "psql (812), java (77, 9 connections)".
export const programs = (clients: Client[]): string =>
  clients
    .map((c) => {
      const pid = String(c.pid ?? "");
      const n = count(c.connections);
      const more = n > 1 ? `, ${n} connections` : "";
      return c.program ? `${c.program} (${pid}${more})` : `pid ${pid}${more && ` (${n} connections)`}`;
    })
    .join(", ");

const plotsEvery = 30_000; // a step of the plot
const settle = 200;

// plots has the rates of tunnels that can be seen, and asks for those that are missing or
// old: all rows of the screen in one request, once scrolling rests.
const plots = {
  of: new Map<string, { rates: number[]; at: number }>(),
  seen: new Map<string, (rates: number[]) => void>(),
  timer: undefined as ReturnType<typeof setTimeout> | undefined,

  show(name: string, draw: (rates: number[]) => void): void {
    this.seen.set(name, draw);
    const known = this.of.get(name);
    if (known) draw(known.rates);
    this.soon(settle);
  },
  hide(name: string): void {
    this.seen.delete(name);
  },
  soon(after: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      void this.ask();
    }, after);
  },
  async ask(): Promise<void> {
    const now = Date.now();
    const names = [...this.seen.keys()].filter((name) => now - (this.of.get(name)?.at ?? 0) >= plotsEvery).slice(0, 100);
    if (names.length > 0 && !document.hidden) {
      try {
        for (const [name, rates] of Object.entries(await api.plots(names))) {
          this.of.set(name, { rates, at: now });
          this.seen.get(name)?.(rates);
        }
      } catch {
        // The agent is away, which the page says.
      }
    }
    if (this.seen.size > 0) this.soon(plotsEvery);
  },
};

const width = 120; // a unit for each point
const height = 20;

// Spark is a tunnel's traffic in the last hour, drawn while it can be seen.
export function Spark({ name }: { name: string }) {
  const ref = useRef<HTMLSpanElement>(null);
  const [rates, draw] = useState<number[]>([]);
  useEffect(() => {
    const observer = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting) plots.show(name, draw);
      else plots.hide(name);
    });
    if (ref.current) observer.observe(ref.current);
    return () => {
      observer.disconnect();
      plots.hide(name);
    };
  }, [name]);
  const most = Math.max(0, ...rates);
  return (
    <span ref={ref} class="spark">
      {most > 0 && (
        <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={`last hour: at most ${bytes(Math.round(most))} a second`}>
          <path d={path(rates, most)} />
        </svg>
      )}
    </span>
  );
}

// path fills what is under the rates, the newest at the right.
function path(rates: number[], most: number): string {
  const first = width - rates.length;
  const steps = rates.map((rate, i) => `L${first + i} ${(height - (rate / most) * (height - 1)).toFixed(1)}`);
  return `M${first} ${height}${steps.join("")}L${first + rates.length - 1} ${height}Z`;
}
