// The recording that berth put into the page: what it is of, and chunks of it,
// each compressed. internal/replay/html.go writes them.

export interface Header {
  title: string;
  recording: { id: string; kind: string; user: string; where: string; interactive: boolean };
  exported_by: string;
  exported_at: string;
  redacted: boolean;
}

export interface Total {
  duration_ms: number;
  printed: number;
  others: number;
  cut: boolean; // its end is missing
}

// Printed is what a session printed at a moment.
export interface Printed {
  at: number; // milliseconds since the beginning
  data: Uint8Array;
}

// Other is an event that prints nothing; cols and rows are 0 unless it has a size.
export interface Other {
  at: number;
  kind: string;
  text: string;
  cols: number;
  rows: number;
  fields: string;
}

export type Event = Printed | Other;

export const isPrinted = (ev: Event): ev is Printed => "data" in ev;

type Row = [at: number, bytes: number, kind?: string, text?: string, cols?: number, rows?: number, fields?: string];

// kept is how many unpacked chunks stay in memory.
const kept = 6;

function json(id: string): unknown {
  const text = document.getElementById(id)?.textContent;
  return text ? (JSON.parse(text) as unknown) : undefined;
}

async function unpack(base64: string): Promise<Uint8Array> {
  const packed = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function parse(bytes: Uint8Array): Event[] {
  let place = bytes.indexOf(10) + 1; // of what was printed, after the JSON
  const rows = JSON.parse(new TextDecoder().decode(bytes.subarray(0, place))) as Row[];
  return rows.map(([at, length, kind, text = "", cols = 0, rows = 0, fields = ""]) => {
    if (kind !== undefined) {
      return { at, kind, text, cols, rows, fields };
    }
    place += length;
    return { at, data: bytes.subarray(place - length, place) };
  });
}

// Recording reads the page's chunks.
export class Recording {
  readonly header: Header;
  readonly total: Total;
  private readonly elements: Element[];
  private readonly from: number[];
  private readonly cache = new Map<number, Promise<Event[]>>();

  private constructor(header: Header, total: Total) {
    this.header = header;
    this.total = total;
    this.elements = [...document.querySelectorAll('script[type="application/x-recording"]')];
    this.from = this.elements.map((e) => Number(e.getAttribute("data-from")));
  }

  // find returns the page's recording; undefined where there is none, or half of one.
  static find(): Recording | undefined {
    const header = json("recording-header");
    const total = json("recording-total");
    return header && total ? new Recording(header as Header, total as Total) : undefined;
  }

  get chunks(): number {
    return this.elements.length;
  }

  // chunkAt returns the last chunk that begins before a moment: what happened then
  // is in it or, of the same millisecond, before it.
  chunkAt(at: number): number {
    let low = 0;
    let high = this.from.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.from[middle] ?? 0) <= at) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return Math.max(0, low - 1);
  }

  // chunk returns the events of a chunk.
  chunk(i: number): Promise<Event[]> {
    let events = this.cache.get(i);
    this.cache.delete(i);
    events ??= unpack(this.elements[i]?.textContent ?? "").then(parse);
    this.cache.set(i, events); // as the newest
    for (const old of this.cache.keys()) {
      if (this.cache.size <= kept) {
        break;
      }
      this.cache.delete(old);
    }
    return events;
  }
}
