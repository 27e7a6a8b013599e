// What the page knows, and the views' way to it.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import type { Snapshot, Tunnel } from "./types";

export interface Toast {
  id: number;
  text: string;
  hint: string;
  bad: boolean;
  undo?: () => void;
}

interface Known {
  snapshot?: Snapshot;
  away?: { message: string; hint: string } | undefined;
  ended?: string; // why berth no longer serves the page; empty where it is not known
  toasts: Toast[];
}

let known: Known = { toasts: [] };
const readers = new Set<() => void>();

export function set(change: Partial<Known>): void {
  known = { ...known, ...change };
  for (const read of readers) read();
}

function useReader(): void {
  const [, again] = useState(0);
  // At once: an effect after the next frame would miss what comes before it, which in a hidden
  // tab is seconds away.
  useLayoutEffect(() => {
    const read = (): void => {
      again((n) => n + 1);
    };
    readers.add(read);
    return () => {
      readers.delete(read);
    };
  }, []);
}

export function useKnown(): Known {
  useReader();
  return known;
}

// useSnapshot is for the views: they are shown when there is one.
export function useSnapshot(): Snapshot {
  useReader();
  return known.snapshot ?? {};
}

const texts = new Map<string, string>();

// snapshot takes a new snapshot. A tunnel that is as it was stays the same object, so
// that its row is not drawn again.
export function snapshot(s: Snapshot): void {
  const before = new Map((known.snapshot?.tunnels ?? []).map((t) => [t.tunnelSpec.name, t]));
  const tunnels = (s.tunnels ?? []).map((t): Tunnel => {
    const name = t.tunnelSpec.name;
    const text = JSON.stringify(t);
    const old = texts.get(name) === text ? before.get(name) : undefined;
    texts.set(name, text);
    return old ?? t;
  });
  set({ snapshot: { ...s, tunnels }, away: undefined });
}

let lastToast = 0;

// say shows a sentence for a while. One that can be undone stays longer.
export function say(text: string, more: Partial<Pick<Toast, "hint" | "bad" | "undo">> = {}): void {
  const toast: Toast = { hint: "", bad: false, ...more, id: ++lastToast, text };
  set({ toasts: [...known.toasts.slice(-2), toast] });
  if (!toast.bad) {
    setTimeout(() => {
      hush(toast.id);
    }, toast.undo ? 20_000 : 6_000);
  }
}

export function hush(id: number): void {
  set({ toasts: known.toasts.filter((t) => t.id !== id) });
}

// useNow is the time, each second or as often as asked.
export function useNow(every = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      setNow(Date.now());
    }, every);
    return () => {
      clearInterval(timer);
    };
  }, [every]);
  return now;
}

const path = (): string => (location.hash.startsWith("#/") ? location.hash.slice(1) : "/tunnels");

export function go(to: string): void {
  location.hash = to;
}

export const tunnelPath = (name: string): string => `/tunnels/${encodeURIComponent(name)}`;

// useRoute is the path in the address, its parts decoded.
export function useRoute(): string[] {
  const [route, setRoute] = useState(path());
  useEffect(() => {
    const changed = (): void => {
      setRoute(path());
    };
    addEventListener("hashchange", changed);
    return () => {
      removeEventListener("hashchange", changed);
    };
  }, []);
  return route.slice(1).split("/").map(decoded);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
