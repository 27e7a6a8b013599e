// What is known of a recording beside its content: its marks, and where a seek
// may begin. It is filled by reading the recording once.
import { isPrinted, type Event, type Recording } from "./data";
import { Screen, type State } from "./screen";

// Mark is an event that prints nothing.
export interface Mark {
  at: number;
  kind: string;
  text: string;
  chunk: number;
  index: number; // in the chunk
}

const terminalKinds = ["resize", "session.start", "session.end", "session.leave", "session.join"];

// isEnhanced tells a command, file, connection or query from what the terminal did.
export const isEnhanced = (m: Mark): boolean => !terminalKinds.includes(m.kind);

const aroundQueries = ["db.session.start", "db.session.end"];

// isQuery tells what a client asked a database.
export const isQuery = (m: Mark): boolean => m.kind.startsWith("db.session.") && !aroundQueries.includes(m.kind);

// maxText bounds what is kept of an event's text; the chunk has all of it.
const maxText = 400;

// maxMarks bounds the marks.
export const maxMarks = 100_000;

// stateBudget bounds the memory of the states: at it, every second one goes.
const stateBudget = 24 << 20;

// A comparison takes place after this many bytes, and more on a larger screen. A
// recording has maxLooks of them.
const lookBytes = 4 * 1024;
const maxLooks = 4096;

// maxDetour is how many chunks back a seek may begin instead, before it begins at
// the recording's beginning.
const maxDetour = 8;

// steps cuts a chunk's events into pieces of about that many bytes.
function* steps(events: Event[], size: number): Generator<Event[]> {
  let from = 0;
  let bytes = 0;
  for (const [i, ev] of events.entries()) {
    bytes += isPrinted(ev) ? ev.data.length : 0;
    if (bytes >= size || i === events.length - 1) {
      yield events.slice(from, i + 1);
      from = i + 1;
      bytes = 0;
    }
  }
}

export class Timeline {
  readonly marks: Mark[] = [];
  more = 0; // marks that were not kept
  scanned = 0; // chunks
  done = false;

  private readonly recording: Recording;
  private readonly states = new Map<number, State>(); // ahead of a chunk
  private readonly origins: number[] = []; // of each chunk, where a seek into it begins
  private size = 0; // of the states

  constructor(recording: Recording) {
    this.recording = recording;
  }

  // origin returns where to begin, to be exactly right within a chunk: a chunk, and
  // the state ahead of it.
  origin(chunk: number): { chunk: number; state: State | undefined } {
    const from = this.origins[chunk] ?? 0;
    const state = this.states.get(from);
    return state === undefined ? { chunk: 0, state } : { chunk: from, state };
  }

  // scan reads the recording once. A state is used only for chunks that look the
  // same when they are played from it.
  async scan(changed: () => void): Promise<void> {
    const screen = new Screen();
    for (let i = 0; i < this.recording.chunks; i++) {
      const events = await this.recording.chunk(i);
      this.note(events, i);
      if (this.recording.total.printed > 0) {
        await this.check(screen, events, i);
      }
      this.scanned = i + 1;
      changed();
    }
    screen.close();
    this.done = true;
    changed();
  }

  private note(events: Event[], chunk: number): void {
    for (const [index, ev] of events.entries()) {
      if (isPrinted(ev)) {
        continue;
      }
      if (this.marks.length >= maxMarks) {
        this.more++;
        continue;
      }
      this.marks.push({ at: ev.at, kind: ev.kind, text: ev.text.slice(0, maxText), chunk, index });
    }
  }

  // check plays a chunk on the screen that has played all, and finds from where else
  // it can be played.
  private async check(screen: Screen, events: Event[], i: number): Promise<void> {
    const state = screen.state();
    const other = await Screen.at(state);
    const looks = [screen.looks()];
    const size = Math.max(lookBytes, this.recording.total.printed / maxLooks, screen.cols * screen.rows * 8);
    let good = looks[0] === other.looks();
    for (const step of steps(events, size)) {
      await screen.feed(step);
      looks.push(screen.looks());
      if (good) {
        await other.feed(step);
        good = other.looks() === looks.at(-1);
      }
    }
    other.close();
    if (good) {
      this.origins[i] = i;
      this.keep(i, state);
      return;
    }
    const before = this.origins[i - 1] ?? 0;
    this.origins[i] = before > 0 && i - before <= maxDetour && (await this.detour(before, i, looks, size)) ? before : 0;
  }

  // detour reports whether a chunk looks right when it is played from an earlier one.
  private async detour(from: number, to: number, looks: string[], size: number): Promise<boolean> {
    const state = this.states.get(from);
    if (state === undefined) {
      return false;
    }
    const screen = await Screen.at(state);
    for (let i = from; i < to; i++) {
      await screen.feed(await this.recording.chunk(i));
    }
    let n = 0;
    let good = screen.looks() === looks[n++];
    for (const step of steps(await this.recording.chunk(to), size)) {
      await screen.feed(step);
      good = good && screen.looks() === looks[n++];
    }
    screen.close();
    return good;
  }

  private keep(i: number, state: State): void {
    this.states.set(i, state);
    this.size += state.text.length * 2;
    if (this.size <= stateBudget) {
      return;
    }
    let odd = false;
    for (const [key, old] of this.states) {
      odd = !odd;
      if (odd && key !== i) {
        this.states.delete(key);
        this.size -= old.text.length * 2;
      }
    }
  }
}
