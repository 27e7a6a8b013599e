// Plays a recording: one loop shows what is due, and nothing else touches the screen.
import { type Event, type Recording } from "./data";
import { maxHits, search, type Hit } from "./search";
import { Screen } from "./screen";
import { Timeline, type Mark } from "./timeline";

export const speeds = [0.25, 0.5, 1, 2, 4, 8, 16];

// maxIdle is what idle time is shortened to, in milliseconds.
const maxIdle = 1000;

// maxBatch bounds how many events are shown between two looks at what the person does.
const maxBatch = 2000;

const nextFrame = (): Promise<number> => new Promise((done) => requestAnimationFrame(done));

export class Player {
  readonly recording: Recording;
  readonly timeline: Timeline;
  at = 0;
  playing = false;
  speed = 1;
  skipIdle = false;
  seeking = false;
  query = "";
  hits: Hit[] = [];
  searching = false;
  say = "";
  failed = "";

  screen = new Screen();
  private chunk = 0; // of the next event
  private index = 0;
  private target: number | undefined; // a seek that was asked for
  private searches = 0;
  private mark = -1; // the one that was gone to last
  private readonly changed: () => void;

  constructor(recording: Recording, changed: () => void) {
    this.recording = recording;
    this.timeline = new Timeline(recording);
    this.changed = changed;
  }

  get duration(): number {
    return this.recording.total.duration_ms;
  }

  // run plays and scans as long as the page stands.
  async run(): Promise<void> {
    const fail = (err: unknown) => {
      this.failed = `This file is damaged: ${err instanceof Error ? err.message : String(err)}`;
      this.playing = false;
      this.changed();
    };
    this.timeline.scan(this.changed).catch(fail);
    await this.loop().catch(fail);
  }

  private async loop(): Promise<void> {
    await this.forward(0);
    this.changed();
    for (let last = await nextFrame(); ; ) {
      const now = await nextFrame();
      const passed = Math.min(now - last, 250); // a page in the background does not go on
      last = now;
      if (this.target !== undefined) {
        const target = this.target;
        this.target = undefined;
        await this.go(target);
        last = await nextFrame();
      } else if (this.playing) {
        await this.step(passed * this.speed);
      } else {
        continue;
      }
      this.changed();
    }
  }

  private async step(by: number): Promise<void> {
    let to = this.at + by;
    const next = await this.next();
    if (this.skipIdle && next !== undefined && next.at - to > maxIdle) {
      to = next.at - maxIdle;
    }
    to = Math.min(to, this.duration);
    if (!(await this.forward(to))) {
      return; // there is a seek now
    }
    if (to >= this.duration) {
      this.playing = false;
    }
  }

  private async next(): Promise<Event | undefined> {
    for (; this.chunk < this.recording.chunks; this.chunk++, this.index = 0) {
      const ev = (await this.recording.chunk(this.chunk))[this.index];
      if (ev !== undefined) {
        return ev;
      }
    }
    return undefined;
  }

  // forward shows all events up to a moment; false where a seek came between.
  private async forward(to: number): Promise<boolean> {
    for (;;) {
      const first = await this.next();
      if (first === undefined || first.at > to) {
        this.at = to;
        return true;
      }
      const batch: Event[] = [];
      const events = await this.recording.chunk(this.chunk);
      for (let ev = events[this.index]; ev !== undefined && ev.at <= to && batch.length < maxBatch; ev = events[++this.index]) {
        batch.push(ev);
      }
      await this.screen.feed(batch);
      this.at = batch.at(-1)?.at ?? this.at;
      if (this.target !== undefined) {
        return false;
      }
    }
  }

  // go seeks: on from here or from a state, whichever is nearer.
  private async go(to: number): Promise<void> {
    this.seeking = true;
    const origin = this.timeline.origin(this.recording.chunkAt(to));
    if (to < this.at || origin.chunk > this.chunk) {
      this.screen.close();
      this.screen = await Screen.at(origin.state ?? { cols: 80, rows: 24, text: "" });
      this.chunk = origin.chunk;
      this.index = 0;
      this.at = 0;
    }
    await this.forward(to);
    this.seeking = false;
  }

  seek(to: number): void {
    this.target = Math.max(0, Math.min(to, this.duration));
    this.seeking = true;
    this.changed();
  }

  toggle(): void {
    this.playing = !this.playing;
    if (this.playing && this.at >= this.duration) {
      this.seek(0);
    }
    this.changed();
  }

  setSpeed(speed: number): void {
    this.speed = speed;
    this.changed();
  }

  // faster goes to the next speed, or the one before.
  faster(by: 1 | -1): void {
    this.setSpeed(speeds[Math.max(0, Math.min(speeds.indexOf(this.speed) + by, speeds.length - 1))] ?? 1);
  }

  setSkipIdle(skip: boolean): void {
    this.skipIdle = skip;
    this.changed();
  }

  // find searches, and goes to the first hit from here on.
  async find(query: string): Promise<void> {
    const mine = ++this.searches;
    this.query = query;
    this.hits = [];
    this.say = "";
    this.searching = query !== "";
    this.changed();
    if (query === "") {
      return;
    }
    const from = this.at;
    let went = false as boolean; // found changes it
    try {
      const all = await search(
        this.recording,
        query,
        (hits) => {
          if (mine !== this.searches) {
            return;
          }
          this.hits = [...hits];
          const first = hits.find((h) => h.at >= from);
          if (first !== undefined && !went) {
            went = true;
            this.toHit(first);
          }
          this.changed();
        },
        () => mine !== this.searches,
      );
      if (mine === this.searches) {
        this.say = this.hits.length === 0 ? "not found" : all ? "" : `the first ${maxHits}`;
        if (!went && this.hits[0] !== undefined) {
          this.toHit(this.hits[0]);
        }
      }
    } finally {
      if (mine === this.searches) {
        this.searching = false;
        this.changed();
      }
    }
  }

  private toHit(hit: Hit): void {
    this.playing = false;
    this.seek(hit.at);
  }

  // nextHit goes to the next or previous hit, beginning again at the other end.
  nextHit(forward: boolean): void {
    const { hits } = this;
    const at = this.target ?? this.at;
    const hit = forward ? (hits.find((h) => h.at > at) ?? hits[0]) : (hits.findLast((h) => h.at < at) ?? hits.at(-1));
    if (hit !== undefined) {
      this.toHit(hit);
    }
  }

  // nextMark goes to the next or previous mark that want is true for.
  nextMark(forward: boolean, want: (m: Mark) => boolean): void {
    const at = this.target ?? this.at;
    const { marks } = this.timeline;
    const last = this.mark;
    const stepping = marks[last]?.at === at; // of several at one moment each is gone to
    const i = forward
      ? marks.findIndex((m, i) => (m.at > at || (stepping && m.at === at && i > last)) && want(m))
      : marks.findLastIndex((m, i) => (m.at < at || (stepping && m.at === at && i < last)) && want(m));
    const mark = marks[i];
    if (mark !== undefined) {
      this.mark = i;
      this.seek(mark.at);
    }
  }
}
