// The bar with the position, the hits and the marks.
import { useEffect, useRef } from "preact/hooks";
import { isEnhanced } from "./timeline";
import type { Player } from "./player";

// clock words a moment, as in 1:02:03.
export function clock(ms: number): string {
  const s = Math.floor(ms / 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}

function draw(canvas: HTMLCanvasElement, player: Player): void {
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.ceil(width * devicePixelRatio);
  canvas.height = Math.ceil(height * devicePixelRatio);
  const c = canvas.getContext("2d");
  if (!c || player.duration === 0) {
    return;
  }
  c.scale(devicePixelRatio, devicePixelRatio);
  const color = (name: string) => {
    canvas.style.color = `var(${name})`; // computed, it is a colour that a canvas knows
    return getComputedStyle(canvas).color;
  };
  const [enhanced, resize, hit] = [color("--enhanced"), color("--resize"), color("--hit")];
  const tick = (at: number, color: string, top: number, length: number) => {
    c.fillStyle = color;
    c.fillRect(Math.min((at / player.duration) * width, width - 2), top, 2, length);
  };
  for (const m of player.timeline.marks) {
    tick(m.at, isEnhanced(m) ? enhanced : resize, height - 7, 7);
  }
  for (const h of player.hits) {
    tick(h.at, hit, 0, height - 8);
  }
}

export function SeekBar({ player, theme }: { player: Player; theme: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { hits } = player;
  const marks = player.timeline.marks.length;
  useEffect(() => {
    const c = canvas.current;
    if (!c) {
      return;
    }
    draw(c, player);
    const observer = new ResizeObserver(() => {
      draw(c, player);
    });
    observer.observe(c);
    return () => {
      observer.disconnect();
    };
  }, [player, hits, marks, theme]);
  const seek = (e: { currentTarget: HTMLInputElement }) => {
    player.seek(Number(e.currentTarget.value));
  };
  return (
    <div class="seek">
      <canvas ref={canvas} aria-hidden="true" data-hits={hits.length} data-marks={marks} />
      <input
        type="range" id="seek" min={0} max={Math.max(1, player.duration)} step={1} value={player.at} onInput={seek}
        aria-label="Position" aria-valuetext={`${clock(player.at)} of ${clock(player.duration)}`}
      />
    </div>
  );
}
