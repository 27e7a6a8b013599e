// What the page has seen of each tunnel since it was opened, for the plots: a sample each
// ten seconds, of the last hour.
import { current } from "./store";
import { count } from "./words";

const every = 10;
const most = 360;

export interface Samples {
  at: number[];
  connections: number[];
  waiting: number[];
  bytesIn: number[]; // a second
  bytesOut: number[];
}

interface Seen {
  in: number;
  out: number;
  samples: Samples;
}

const seen = new Map<string, Seen>();

export const samplesOf = (name: string): Samples | undefined => seen.get(name)?.samples;

export function sample(): void {
  const tunnels = current()?.tunnels ?? [];
  const now = Math.round(Date.now() / 1000);
  const names = new Set<string>();
  for (const t of tunnels) {
    const name = t.tunnelSpec.name;
    names.add(name);
    const [bytesIn, bytesOut] = [count(t.bytesIn), count(t.bytesOut)];
    const s = seen.get(name) ?? { in: bytesIn, out: bytesOut, samples: { at: [], connections: [], waiting: [], bytesIn: [], bytesOut: [] } };
    seen.set(name, s);
    put(s.samples.at, now);
    put(s.samples.connections, count(t.connections));
    put(s.samples.waiting, count(t.waiting));
    // An agent that was started anew counts from zero.
    put(s.samples.bytesIn, Math.max(0, bytesIn - s.in) / every);
    put(s.samples.bytesOut, Math.max(0, bytesOut - s.out) / every);
    [s.in, s.out] = [bytesIn, bytesOut];
  }
  for (const name of seen.keys()) {
    if (!names.has(name)) seen.delete(name);
  }
}

function put(list: number[], value: number): void {
  list.push(value);
  if (list.length > most) list.shift();
}

export function startSampling(): void {
  setInterval(sample, every * 1000);
}
