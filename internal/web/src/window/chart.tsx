// A small plot over time, in the colours of the page.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

type Line = readonly [name: string, values: number[]];

const dark = matchMedia("(prefers-color-scheme: dark)");

export function Chart(props: { title: string; at: number[]; lines: Line[]; show: (value: number) => string }) {
  const ref = useRef<HTMLDivElement>(null);
  const { at, lines, show, title } = props;
  useEffect(() => {
    const box = ref.current;
    if (!box) return undefined;
    let plot: uPlot | undefined;
    const draw = (): void => {
      plot?.destroy();
      plot = new uPlot(options(box, lines, show), [at, ...lines.map(([, values]) => values)], box);
    };
    const observer = new ResizeObserver(() => {
      plot?.setSize({ width: box.clientWidth, height });
    });
    draw();
    observer.observe(box);
    dark.addEventListener("change", draw);
    return () => {
      observer.disconnect();
      dark.removeEventListener("change", draw);
      plot?.destroy();
    };
  }, [at, show]);
  const latest = lines.map(([name, values]) => `${name} ${show(values.at(-1) ?? 0)}, at most ${show(Math.max(0, ...values))}`);
  return (
    <figure class="card">
      <figcaption><h2>{title}</h2> <span class="dim">last hour: {latest.join("; ")}</span></figcaption>
      <div ref={ref} aria-hidden="true" />
    </figure>
  );
}

const height = 110;

function options(box: HTMLElement, lines: Line[], show: (value: number) => string): uPlot.Options {
  const style = getComputedStyle(box);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--dim"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui",
  };
  return {
    width: box.clientWidth || 300,
    height,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] } },
    axes: [
      { ...axis, size: 24, values: (_, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })) },
      { ...axis, size: 56, values: (_, ticks) => ticks.map(show) },
    ],
    series: [
      {},
      ...lines.map(([label], i) => ({
        label,
        stroke: colour(i === 0 ? "--accent" : "--dim"),
        width: 1.5,
        ...(i === 0 ? { fill: colour("--wash") } : { dash: [4, 3] }),
        points: { show: false },
      })),
    ],
  };
}
