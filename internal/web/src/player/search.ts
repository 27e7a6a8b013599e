// Search in what was on the screen, as "berth recording play" does it.
import { isPrinted, type Event, type Recording } from "./data";
import { Screen } from "./screen";

export interface Hit {
  at: number;
  row: number;
}

// How often the screen is looked at: in the recording's time and in bytes.
const lookEvery = 100;
const lookBytes = 2048;

export const maxHits = 2000;

// Finder notes in which rows a text has appeared since its last look. Letters match
// both cases unless the text has a capital.
class Finder {
  private readonly query: string;
  private readonly fold: boolean;
  private shown = new Set<string>();

  constructor(query: string) {
    this.fold = query === query.toLowerCase();
    this.query = query;
  }

  look(screen: Screen, at: number): Hit[] {
    const hits: Hit[] = [];
    const shown = new Set<string>();
    const lines = screen.lines();
    for (const [row, text] of lines.entries()) {
      const whole = text.length >= screen.cols ? text + (lines[row + 1] ?? "") : text; // a long line goes on in the next
      const folded = this.fold ? whole.toLowerCase() : whole;
      if (!folded.includes(this.query)) {
        continue;
      }
      if (!this.shown.has(folded) && !shown.has(folded)) {
        hits.push({ at, row });
      }
      shown.add(folded);
    }
    this.shown = shown;
    return hits;
  }
}

// search calls found with the hits so far, until all is read, there are too many or
// stopped returns true. It returns whether that was the recording's end.
export async function search(recording: Recording, query: string, found: (hits: Hit[]) => void, stopped: () => boolean): Promise<boolean> {
  const screen = new Screen();
  try {
    const finder = new Finder(query);
    const hits: Hit[] = [];
    let due = 0;
    let last = 0;
    let fresh = 0; // bytes since the last look
    for (let i = 0; i < recording.chunks; i++) {
      const groups: Event[][] = [[]]; // with a look after each but the last
      const times: number[] = []; // of the looks
      for (const ev of await recording.chunk(i)) {
        if (fresh > 0 && (ev.at - due >= lookEvery || fresh >= lookBytes)) {
          groups.push([]);
          times.push(last);
          fresh = 0;
          due = ev.at;
        }
        groups.at(-1)?.push(ev);
        last = ev.at;
        fresh += isPrinted(ev) ? ev.data.length : 0;
      }
      if (i === recording.chunks - 1) {
        times.push(last);
      }
      await screen.feedAll(groups, (group) => {
        const at = times[group];
        if (at === undefined || hits.length >= maxHits || stopped()) {
          return;
        }
        const before = hits.length;
        hits.push(...finder.look(screen, at));
        if (before === 0 && hits.length > 0) {
          found(hits);
        }
      });
      found(hits);
      if (stopped() || hits.length >= maxHits) {
        return false;
      }
    }
    return true;
  } finally {
    screen.close();
  }
}
