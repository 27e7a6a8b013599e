"use strict";
const box = document.getElementById("search"), list = document.getElementById("results"), up = document.body.dataset.up;

// Words of a question that say nothing of what it is about.
const EMPTY = new Set(("a about an and any are as at be by can could did do does for from get had has have how i if in into is it its me my of on or our " +
  "should so than that the their them there these this to use used using want was we what when where which who whom whose why will with without would you your").split(" "));

// stem cuts a word's usual endings off, so that "connections are cut" finds "cut the connection".
function stem(w) {
  if (w.length > 5 && w.endsWith("ing")) w = w.slice(0, -3);
  else if (w.length > 4 && w.endsWith("ed")) w = w.slice(0, -2);
  else if (w.length > 4 && w.endsWith("ies")) w = w.slice(0, -2);
  else if (w.length > 3 && w.endsWith("s") && !w.endsWith("ss")) w = w.slice(0, -1);
  return w.length > 4 && w.endsWith("e") ? w.slice(0, -1) : w;
}

// Rare words count more than common ones, and a section that has all words of a question
// more than one that has some. What a heading says counts more, and so does a phrase.
function find(query) {
  const typed = query.toLowerCase().split(/[\s?!,;:"“”]+/).filter(Boolean), said = typed.filter(w => !EMPTY.has(w));
  const words = said.length ? said : typed, phrase = words.join(" ");
  if (!phrase) return [[], []];
  const begins = words.map(w => new RegExp("(?<![\\p{L}\\p{N}])" + stem(w).replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "gu"));
  const counted = INDEX.map(s => begins.map(w => [s.t.toLowerCase().match(w)?.length ?? 0, s.x.toLowerCase().match(w)?.length ?? 0]));
  const rare = begins.map((_, i) => Math.log(1 + INDEX.length / (1 + counted.filter(c => c[i][0] + c[i][1]).length)));
  const hits = [];
  INDEX.forEach((s, n) => {
    let score = 0, there = 0, all = 0;
    counted[n].forEach(([title, text], i) => {
      all += rare[i];
      if (!title && !text) return;
      there += rare[i];
      score += rare[i] * ((title ? 10 : 0) + Math.min(5, text) / (1 + s.x.length / 4000));
    });
    if (!score) return;
    score *= (there / all) ** 3;
    if (words.length > 1) score += (s.x.toLowerCase().includes(phrase) ? 6 : 0) + (s.t.toLowerCase().includes(phrase) ? 20 : 0);
    if (/^(man|docs.COMMANDS|CHANGELOG|docs.ARCHITECTURE)/.test(s.p)) score /= 3; // the other documents explain
    hits.push([score, s]);
  });
  const rarest = begins.map((_, i) => i).sort((a, b) => rare[b] - rare[a]);
  return [hits.sort((a, b) => b[0] - a[0]).slice(0, 12).map(h => h[1]), rarest.map(i => begins[i])];
}

function show() {
  const [hits, begins] = find(box.value);
  list.replaceChildren(...hits.map(s => {
    const at = Math.max(0, (begins.map(w => s.x.toLowerCase().search(w)).find(i => i >= 0) ?? 0) - 40);
    const a = document.createElement("a"), li = document.createElement("li"), small = document.createElement("small");
    a.href = up + s.p;
    a.textContent = s.t;
    small.textContent = (at ? "…" : "") + s.x.slice(at, at + 140);
    a.append(small);
    li.append(a);
    return li;
  }));
  list.hidden = !box.value.trim();
  if (!list.hidden && !hits.length) list.textContent = "Nothing found.";
}

box.addEventListener("input", show);
document.addEventListener("keydown", e => {
  if (e.key === "/" && document.activeElement !== box) { e.preventDefault(); box.focus(); }
  if (e.key === "Escape") { box.value = ""; show(); box.blur(); }
  if (e.key === "Enter" && document.activeElement === box && list.querySelector("a")) list.querySelector("a").click();
});
if (new URLSearchParams(location.search).get("q")) { box.value = new URLSearchParams(location.search).get("q"); show(); }
