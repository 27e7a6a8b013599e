"use strict";
const box = document.getElementById("search"), list = document.getElementById("results"), up = document.body.dataset.up;

// Every word must begin one that is there; one in the title counts more, and so does a phrase.
function find(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean), phrase = words.join(" ");
  if (!phrase) return [];
  const begins = words.map(w => new RegExp("(?<![\\p{L}\\p{N}])" + w.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "gu"));
  const hits = [];
  for (const s of INDEX) {
    const title = s.t.toLowerCase(), text = s.x.toLowerCase();
    let score = 0;
    for (const w of begins) {
      const points = (title.match(w) ? 10 : 0) + Math.min(5, text.match(w)?.length ?? 0);
      if (!points) { score = 0; break; }
      score += points;
    }
    if (score) score += (text.includes(phrase) ? 6 : 0) + (title.includes(phrase) ? 20 : 0);
    if (/^(man|docs.COMMANDS|CHANGELOG)/.test(s.p)) score /= 3; // the other documents explain
    if (score) hits.push([score, s]);
  }
  return hits.sort((a, b) => b[0] - a[0]).slice(0, 12).map(h => h[1]);
}

function show() {
  const hits = find(box.value);
  list.replaceChildren(...hits.map(s => {
    const at = Math.max(0, s.x.toLowerCase().indexOf(box.value.trim().toLowerCase().split(/\s+/)[0]) - 40);
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
