// What others wrote, made safe to read: without control characters, marks that
// turn the direction of writing, and what cannot be seen.
const unseen = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0]/gu;

// line cleans a text for one line.
export const line = (text: string): string => text.replace(/\s+/gu, " ").replace(unseen, "");

// block cleans a text of several lines.
export const block = (text: string): string => text.split("\n").map((l) => l.replace(/\t/gu, "  ").replace(unseen, "")).join("\n");

// cell cleans what stands in one cell of a terminal; a cell is never empty.
export const cell = (text: string): string => text.replace(unseen, "") || " ";
