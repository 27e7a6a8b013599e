// The side pane: events or queries in their order, of which those in sight alone
// are in the page, and all that is known of the one that was chosen.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { block, line } from "./clean";
import { isPrinted, type Other } from "./data";
import { clock } from "./seekbar";
import { isEnhanced, isQuery, type Mark } from "./timeline";
import type { Player } from "./player";

const rowHeight = 26;

// what is a mark's event, whole.
async function whole(player: Player, m: Mark): Promise<Other | undefined> {
  const ev = (await player.recording.chunk(m.chunk))[m.index];
  return ev === undefined || isPrinted(ev) ? undefined : ev;
}

function pretty(fields: string): string {
  try {
    return JSON.stringify(JSON.parse(fields), undefined, 2);
  } catch {
    return fields; // as it is
  }
}

function Detail({ player, mark, close }: { player: Player; mark: Mark; close: () => void }) {
  const [event, setEvent] = useState<Other>();
  useEffect(() => {
    let mine = true;
    setEvent(undefined);
    void whole(player, mark).then((ev) => {
      if (mine) {
        setEvent(ev);
      }
    });
    return () => {
      mine = false;
    };
  }, [player, mark]);
  return (
    <section class="detail" aria-label="The chosen event">
      <button type="button" class="close" onClick={close} aria-label="Close">×</button>
      <b>{line(mark.kind)}</b> <span class="dim">{clock(mark.at)}</span>
      <pre class="text" tabIndex={0}>{block(event?.text ?? mark.text)}</pre>
      {event?.fields && (
        <details>
          <summary>As the cluster noted it</summary>
          <pre tabIndex={0}>{block(pretty(event.fields))}</pre>
        </details>
      )}
    </section>
  );
}

// nowIn returns the place of the last mark that is not after a moment; -1 for none.
function nowIn(marks: Mark[], at: number): number {
  let low = 0;
  let high = marks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((marks[middle]?.at ?? 0) <= at) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low - 1;
}

function Table({ player, marks, chosen, choose }: { player: Player; marks: Mark[]; chosen: Mark | undefined; choose: (m: Mark) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  const now = nowIn(marks, player.at);
  useEffect(() => {
    const b = box.current;
    if (!b) {
      return;
    }
    const observer = new ResizeObserver(() => {
      setHeight(b.clientHeight);
    });
    observer.observe(b);
    return () => {
      observer.disconnect();
    };
  }, []);
  useLayoutEffect(() => {
    const b = box.current;
    if (b && now >= 0 && (now * rowHeight < b.scrollTop || (now + 2) * rowHeight > b.scrollTop + b.clientHeight)) {
      b.scrollTop = Math.max(0, now * rowHeight - b.clientHeight / 2);
    }
  }, [now, marks]);
  const first = Math.max(0, Math.floor(top / rowHeight) - 5);
  const last = Math.min(marks.length, Math.ceil((top + height) / rowHeight) + 5);
  const pick = (m: Mark) => {
    choose(m);
    player.seek(m.at);
  };
  return (
    <div
      class="list" ref={box} tabIndex={0} role="region" aria-label="Events"
      onScroll={(e) => {
        setTop(e.currentTarget.scrollTop);
      }}
    >
      <div role="table" aria-rowcount={marks.length} style={{ height: `${marks.length * rowHeight}px` }}>
        {marks.slice(first, last).map((m, i) => (
          <div
            key={first + i} role="row" aria-rowindex={first + i + 1} aria-current={first + i === now ? "time" : undefined}
            class={`mark ${isEnhanced(m) ? "enhanced" : "resize"}${m === chosen ? " chosen" : ""}`}
            style={{ top: `${(first + i) * rowHeight}px` }} title={line(m.text)}
            onClick={() => {
              pick(m);
            }}
          >
            <span role="cell" class="time">{clock(m.at)}</span>
            <span role="cell" class="kind">{line(m.kind).replace(/^(db\.)?session\./, "").replace(".statements.", ".")}</span>
            <span role="cell" class="what">
              <button type="button">{line(m.text) || "—"}</button>
            </span>
          </div>
        ))}
      </div>
    </div>
  );
}

export function Events({ player }: { player: Player }) {
  const [filter, setFilter] = useState("");
  const [tab, setTab] = useState<"events" | "queries">();
  const [chosen, setChosen] = useState<Mark>();
  const { marks, more, done, scanned } = player.timeline;
  const queries = useMemo(() => marks.filter(isQuery), [marks.length]);
  const shown = tab ?? (queries.length > 0 && player.recording.header.recording.kind === "db" ? "queries" : "events");
  const list = useMemo(() => {
    const wanted = filter.toLowerCase();
    const all = shown === "queries" ? queries : marks;
    return wanted ? all.filter((m) => `${m.kind} ${m.text}`.toLowerCase().includes(wanted)) : [...all];
  }, [shown, marks.length, filter]);
  const tabButton = (id: "events" | "queries", text: string, count: number) => (
    <button
      type="button" role="tab" aria-selected={shown === id}
      onClick={() => {
        setTab(id);
      }}
    >
      {text} <span class="count">{count}</span>
    </button>
  );
  return (
    <aside class="side" aria-label="Events">
      <div class="tabs" role="tablist">
        {tabButton("events", "Events", marks.length)}
        {queries.length > 0 && tabButton("queries", "Queries", queries.length)}
      </div>
      <input
        type="search" id="filter" placeholder={shown === "queries" ? "Filter queries" : "Filter events"} value={filter} aria-label="Filter"
        onInput={(e) => {
          setFilter(e.currentTarget.value);
        }}
      />
      <Table player={player} marks={list} chosen={chosen} choose={setChosen} />
      <p class="note" aria-live="polite">
        {!done && `Reading: ${Math.floor((100 * scanned) / Math.max(1, player.recording.chunks))} %`}
        {done && filter !== "" && `${list.length} match`}
        {done && filter === "" && marks.length === 0 && "No events."}
        {more > 0 && ` ${more} more events are not listed.`}
      </p>
      {chosen && (
        <Detail
          player={player} mark={chosen}
          close={() => {
            setChosen(undefined);
          }}
        />
      )}
    </aside>
  );
}
