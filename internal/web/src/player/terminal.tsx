// Draws a screen as rows of text: no markup, link or style of the recording's own.
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { bold, dim, italic, strike, underline, type Run, type Screen } from "./screen";

// What the first 16 colours are; the others follow from their numbers.
const base = [
  "#24292f", "#ff6b6b", "#57d27a", "#e5c25a", "#6cb2ff", "#d58bff", "#4fd1d9", "#d0d7de",
  "#8b949e", "#ff8f8f", "#86efac", "#fde68a", "#9ecbff", "#e5b8ff", "#8be9ef", "#ffffff",
];

function css(color: string): string {
  if (!color.startsWith("p")) {
    return color === "fg" ? "var(--term-fg)" : color === "bg" ? "var(--term-bg)" : color;
  }
  const n = Number(color.slice(1));
  if (n < 16) {
    return base[n] ?? "";
  }
  if (n >= 232) {
    const level = 8 + (n - 232) * 10;
    return `rgb(${level} ${level} ${level})`;
  }
  const level = (v: number) => (v === 0 ? 0 : 55 + v * 40);
  return `rgb(${level(Math.floor((n - 16) / 36))} ${level(Math.floor((n - 16) / 6) % 6)} ${level((n - 16) % 6)})`;
}

function span(run: Run): HTMLSpanElement {
  const e = document.createElement("span");
  e.textContent = run.text;
  if (run.width > 0) {
    e.className = run.width > 1 ? "cell wide" : "cell";
  }
  const { fg, bg, flags } = run.style;
  if (fg) e.style.color = css(fg);
  if (bg) e.style.backgroundColor = css(bg);
  if (flags & bold) e.style.fontWeight = "bold";
  if (flags & dim) e.style.opacity = "0.6";
  if (flags & italic) e.style.fontStyle = "italic";
  const lines = [flags & underline ? "underline" : "", flags & strike ? "line-through" : ""].join(" ").trim();
  if (lines) e.style.textDecoration = lines;
  return e;
}

// Rows keeps the page's rows like the screen's; only rows that changed are touched.
class Rows {
  private readonly box: HTMLElement;
  private readonly cursor: HTMLElement;
  private readonly hits: HTMLElement;
  private drawn: string[] = [];
  private marked = "";
  private size = "";

  constructor(box: HTMLElement) {
    this.box = box;
    this.cursor = document.createElement("div");
    this.cursor.className = "cursor";
    this.hits = document.createElement("div");
  }

  draw(screen: Screen, query: string): void {
    const { cols, rows } = screen;
    const size = `${cols}×${rows}`;
    if (size !== this.size) {
      this.size = size;
      this.drawn = [];
      this.box.dataset["size"] = size;
      this.box.replaceChildren(
        ...Array.from({ length: rows }, () => {
          const row = document.createElement("div");
          row.className = "row";
          return row;
        }),
        this.cursor,
        this.hits,
      );
      this.fit(cols, rows);
    }
    for (let y = 0; y < rows; y++) {
      const runs = screen.row(y);
      const key = JSON.stringify(runs);
      if (key !== this.drawn[y]) {
        this.drawn[y] = key;
        this.box.children[y]?.replaceChildren(...runs.map(span));
      }
    }
    const places = screen.find(query);
    const marked = JSON.stringify(places);
    if (marked !== this.marked) {
      this.marked = marked;
      this.hits.replaceChildren(
        ...places.map(({ row, col, width }) => {
          const e = document.createElement("div");
          e.className = "hit";
          e.style.translate = `calc(${col} * var(--cell)) calc(${row} * var(--line))`;
          e.style.width = `calc(${width} * var(--cell))`;
          return e;
        }),
      );
    }
    const { cursor } = screen;
    this.cursor.hidden = cursor === undefined;
    this.cursor.style.translate = cursor ? `calc(${cursor.x} * var(--cell)) calc(${cursor.y} * var(--line))` : "";
  }

  // fit makes the letters as large as lets all be seen, within what can be read.
  fit(cols: number, rows: number): void {
    const room = this.box.parentElement?.getBoundingClientRect();
    if (!room) {
      return;
    }
    const probe = document.createElement("span");
    probe.className = "probe";
    probe.textContent = "0".repeat(100);
    this.box.append(probe);
    const ratio = probe.getBoundingClientRect().width / 100 / parseFloat(getComputedStyle(this.box).fontSize);
    probe.remove();
    const font = Math.max(5, Math.min(20, (room.width - 24) / cols / ratio, (room.height - 24) / rows / 1.25));
    this.box.style.fontSize = `${font}px`;
    this.box.style.setProperty("--cell", `${ratio * font}px`);
    this.box.style.setProperty("--line", `${1.25 * font}px`);
    this.box.style.width = `${Math.ceil(cols * ratio * font)}px`;
    this.box.style.height = `${rows * 1.25 * font}px`;
  }
}

export function TerminalView({ screen, query }: { screen: Screen; query: string }) {
  const box = useRef<HTMLDivElement>(null);
  const rows = useRef<Rows>(null);
  const shown = useRef(screen);
  shown.current = screen;
  useLayoutEffect(() => {
    if (box.current) {
      rows.current ??= new Rows(box.current);
      rows.current.draw(screen, query);
    }
  });
  useEffect(() => {
    const room = box.current?.parentElement;
    if (!room) {
      return;
    }
    const observer = new ResizeObserver(() => rows.current?.fit(shown.current.cols, shown.current.rows));
    observer.observe(room);
    return () => {
      observer.disconnect();
    };
  }, []);
  return (
    <div class="room" tabIndex={0} role="region" aria-label="The recorded terminal">
      <div class="terminal" ref={box} />
    </div>
  );
}
