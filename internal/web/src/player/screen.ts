// A recorded terminal: xterm.js without its own display. It has no page, so that
// nothing a session printed reaches one, except the cells that are read here.
import { SerializeAddon } from "@xterm/addon-serialize";
import { Terminal, type IBufferCell } from "@xterm/headless";
import { cell as cleanCell } from "./clean";
import { isPrinted, type Event } from "./data";

// Run is a piece of a row in one style. width is 0 where the font's own width of
// the text is that of its cells, else the width of the one character.
export interface Run {
  text: string;
  width: number;
  style: Style;
}

// A color is "" for the usual one, a palette's index as "p1", or "#rrggbb".
export interface Style {
  fg: string;
  bg: string;
  flags: number;
}

export const bold = 1;
export const dim = 2;
export const italic = 4;
export const underline = 8;
export const strike = 16;

const hidden = 32; // text that is not to be seen
const inverse = 64;

// maxWrite bounds what the emulator is given at a time.
const maxWrite = 256 * 1024;

// A character that every monospaced font has, as wide as a cell.
const usual = /^[\u0020-\u024f\u2500-\u259f]$/u;

function color(mode: "default" | "palette" | "rgb", value: number): string {
  if (mode === "default") {
    return "";
  }
  return mode === "palette" ? `p${value}` : `#${value.toString(16).padStart(6, "0")}`;
}

function styleOf(c: IBufferCell): Style {
  let flags = 0;
  if (c.isBold()) flags |= bold;
  if (c.isDim()) flags |= dim;
  if (c.isItalic()) flags |= italic;
  if (c.isUnderline()) flags |= underline;
  if (c.isStrikethrough()) flags |= strike;
  if (c.isInvisible()) flags |= hidden;
  if (c.isInverse()) flags |= inverse;
  const fg = color(c.isFgRGB() ? "rgb" : c.isFgPalette() ? "palette" : "default", c.getFgColor());
  const bg = color(c.isBgRGB() ? "rgb" : c.isBgPalette() ? "palette" : "default", c.getBgColor());
  return flags & inverse ? { fg: bg || "bg", bg: fg || "fg", flags } : { fg, bg, flags };
}

const blank: Style = { fg: "", bg: "", flags: 0 };

const same = (a: Style, b: Style): boolean => a.fg === b.fg && a.bg === b.bg && a.flags === b.flags;

// Place is a part of a row.
export interface Place {
  row: number;
  col: number;
  width: number;
}

// State is what brings a new screen to where another one is.
export interface State {
  cols: number;
  rows: number;
  text: string;
}

export class Screen {
  private readonly terminal: Terminal;
  private readonly serializer = new SerializeAddon();
  private regions = ["", ""]; // scroll regions of the usual and the other screen
  private shown = true; // the cursor
  private read: IBufferCell | undefined;

  constructor(state: State = { cols: 80, rows: 24, text: "" }) {
    this.terminal = new Terminal({ cols: state.cols, rows: state.rows, scrollback: 0, allowProposedApi: true, logLevel: "off" });
    this.terminal.loadAddon(this.serializer);
    // What follows is noted, and false leaves it to the emulator to obey.
    const { parser } = this.terminal;
    parser.registerCsiHandler({ final: "r" }, (params) => {
      this.regions[this.other] = params.join(";");
      return false;
    });
    for (const final of ["h", "l"]) {
      parser.registerCsiHandler({ prefix: "?", final }, (params) => {
        if (params.includes(25)) {
          this.shown = final === "h";
        }
        return false;
      });
    }
    const reset = () => {
      this.regions = ["", ""];
      this.shown = true;
      return false;
    };
    parser.registerEscHandler({ final: "c" }, reset);
    parser.registerCsiHandler({ intermediates: "!", final: "p" }, reset);
  }

  // at returns a screen in a state.
  static async at(state: State): Promise<Screen> {
    const screen = new Screen(state);
    await screen.write(state.text);
    return screen;
  }

  private get other(): 0 | 1 {
    return this.terminal.buffer.active.type === "alternate" ? 1 : 0;
  }

  get cols(): number {
    return this.terminal.cols;
  }

  get rows(): number {
    return this.terminal.rows;
  }

  // cursor returns where the cursor is; undefined while it is hidden.
  get cursor(): { x: number; y: number } | undefined {
    const { cursorX, cursorY } = this.terminal.buffer.active;
    return this.shown ? { x: Math.min(cursorX, this.cols - 1), y: cursorY } : undefined;
  }

  close(): void {
    this.terminal.dispose();
  }

  // write shows data and calls then before any that is written later.
  private write(data: string | Uint8Array, then?: () => void): Promise<void> {
    return new Promise((done) => {
      this.terminal.write(data, () => {
        then?.();
        done();
      });
    });
  }

  // feed shows events, those between two sizes at once.
  feed(events: Event[]): Promise<void> {
    return this.feedAll([events]);
  }

  // feedAll shows groups of events, and calls shown after each. The emulator has a
  // pause of milliseconds ahead of what it is given, so that it is given all at once.
  async feedAll(groups: Event[][], shown?: (group: number) => void): Promise<void> {
    let parts: Uint8Array[] = [];
    let size = 0;
    let written = Promise.resolve();
    const flush = (then?: () => void) => {
      const all = new Uint8Array(size);
      let at = 0;
      for (const part of parts) {
        all.set(part, at);
        at += part.length;
      }
      parts = [];
      size = 0;
      written = this.write(all, then);
      return written;
    };
    for (const [i, events] of groups.entries()) {
      for (const ev of events) {
        if (isPrinted(ev)) {
          parts.push(ev.data);
          size += ev.data.length;
          if (size >= maxWrite) {
            await flush();
          }
        } else if (ev.cols > 0 && ev.rows > 0 && (ev.cols !== this.cols || ev.rows !== this.rows)) {
          await flush();
          this.terminal.resize(Math.max(2, ev.cols), ev.rows);
          this.regions = ["", ""];
        }
      }
      if (shown !== undefined) {
        void flush(() => {
          shown(i);
        });
      }
    }
    await (size > 0 ? flush() : written);
  }

  // row returns a row's runs.
  row(y: number): Run[] {
    const runs: Run[] = [];
    const row = this.terminal.buffer.active.getLine(this.terminal.buffer.active.baseY + y);
    let last: Run | undefined;
    for (let x = 0; row !== undefined && x < this.cols; x++) {
      const c = row.getCell(x, this.read);
      if (c === undefined) {
        break;
      }
      this.read = c;
      const width = c.getWidth();
      if (width === 0) {
        continue; // the second half of a wide character
      }
      const style = styleOf(c);
      const text = style.flags & hidden ? " ".repeat(width) : cleanCell(c.getChars());
      const plain = width === 1 && usual.test(text);
      if (plain && last?.width === 0 && same(last.style, style)) {
        last.text += text;
      } else {
        last = { text, width: plain ? 0 : width, style };
        runs.push(last);
      }
    }
    if (last?.width === 0 && same(last.style, blank)) {
      last.text = last.text.trimEnd();
    }
    return runs;
  }

  // lines returns the rows as text.
  lines(): string[] {
    const buffer = this.terminal.buffer.active;
    return Array.from({ length: this.rows }, (_, y) => buffer.getLine(buffer.baseY + y)?.translateToString(true) ?? "");
  }

  // find returns where a text is to be seen; what goes on in the next row is two places.
  find(query: string): Place[] {
    const fold = query === query.toLowerCase();
    const buffer = this.terminal.buffer.active;
    const cells: Place[] = []; // of each unit of text
    let text = "";
    for (let y = 0; query !== "" && y < this.rows; y++) {
      const row = buffer.getLine(buffer.baseY + y);
      const end = row?.translateToString(true).length ?? 0;
      for (let x = 0; row !== undefined && x < this.cols; x++) {
        const c = row.getCell(x, this.read);
        if (c === undefined) {
          break;
        }
        this.read = c;
        const width = c.getWidth();
        const chars = width === 0 ? "" : c.getChars() || " ";
        const shown = fold ? chars.toLowerCase() : chars;
        text += shown;
        for (let i = 0; i < shown.length; i++) {
          cells.push({ row: y, col: x, width });
        }
      }
      if (end < this.cols) {
        text += "\n";
        cells.push({ row: y, col: this.cols, width: 0 });
      }
    }
    const places: Place[] = [];
    for (let at = query === "" ? -1 : text.indexOf(query); at >= 0; at = text.indexOf(query, at + query.length)) {
      let last: Place | undefined;
      for (const c of cells.slice(at, at + query.length)) {
        if (last?.row === c.row) {
          last.width = c.col + c.width - last.col;
        } else {
          last = { ...c };
          places.push(last);
        }
      }
    }
    return places;
  }

  // looks returns all that can be seen, as a text to compare.
  looks(): string {
    const rows = Array.from({ length: this.rows }, (_, y) => this.row(y));
    return JSON.stringify([this.cols, this.rows, this.cursor, rows]);
  }

  // state returns what brings a new screen here. The emulator keeps more than it
  // says, such as cursors that a program saved: who uses a state checks it.
  state(): State {
    const { cols, rows } = this;
    let text = this.serializer.serialize({ scrollback: 0 });
    const region = this.regions[this.other];
    const { cursorX, cursorY } = this.terminal.buffer.active;
    if (region) {
      const origin = this.terminal.modes.originMode ? "\x1b[?6l" : "";
      text += `\x1b[${region}r${origin}\x1b[${cursorY + 1};${cursorX + 1}H`;
    }
    if (!this.shown) {
      text += "\x1b[?25l";
    }
    return { cols, rows, text };
  }
}
