// The recorded sessions that one may see.
import { useState } from "preact/hooks";
import { api } from "./api";
import { useNow } from "./store";
import type { Recording } from "./types";
import { CopyLink, Search, Wrong, useLoaded } from "./ui";
import { clock, matches, span } from "./words";

const kinds = [["", "Every kind"], ["ssh", "SSH"], ["kube", "Kubernetes"], ["db", "Database"], ["app", "Application"], ["desktop", "Desktop"]] as const;
const spans = [["1", "Last day"], ["7", "Last week"], ["30", "Last month"], ["", "All"]] as const;

export function Recordings() {
  const [kind, setKind] = useState("");
  const [days, setDays] = useState("7");
  const [query, setQuery] = useState("");
  const list = useLoaded(() => {
    const since = days ? new Date(Date.now() - Number(days) * 86_400_000).toISOString() : "";
    return api.recordings({ kind, since, limit: "500" });
  }, [kind, days]);
  const shown = (list.value?.recordings ?? []).filter((r) => matches(query, r.user, r.where, r.login, r.cluster, r.kind, r.id));
  return (
    <section>
      <h1 tabIndex={-1}>Recordings</h1>
      <div class="bar">
        <Search label="Search recordings" value={query} set={setQuery} />
        <label class="inline">Kind <select value={kind} onChange={(e) => {
          setKind(e.currentTarget.value);
        }}>{kinds.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select></label>
        <label class="inline">From <select value={days} onChange={(e) => {
          setDays(e.currentTarget.value);
        }}>{spans.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select></label>
      </div>
      {list.busy && <p class="dim" role="status">Asking the clusters…</p>}
      {list.failed && <Wrong failure={list.failed} />}
      {list.value?.notes?.map((note) => <p class="dim" key={note}>{note}</p>)}
      {list.value && shown.length === 0 && <p>{list.value.recordings?.length ? "Nothing matches." : "There is no recording that you may see."}</p>}
      <ul class="rows">{shown.map((r) => <Row key={r.id} recording={r} />)}</ul>
      {list.value?.more && <p class="dim">There are more: choose a shorter time or one kind.</p>}
    </section>
  );
}

function Row({ recording: r }: { recording: Recording }) {
  const now = useNow(10_000);
  const end = r.endedAt ? Date.parse(r.endedAt) : r.live ? now : undefined;
  const took = r.startedAt && (end === undefined ? "–" : span(end - Date.parse(r.startedAt)));
  return (
    <li class="row offer">
      <div class="who">
        <a data-row href={api.recording(r.id, r.cluster ?? "")} target="_blank" rel="noreferrer"><strong>{r.where || r.id}</strong></a>
        <span class="dim">{[r.kind, r.cluster].filter(Boolean).join(" · ")}</span>
      </div>
      <span>{r.user}{r.login && r.login !== r.user && ` as ${r.login}`}</span>
      <span class="num dim"><CopyLink verb="recording" to={r.id} label={`Copy link to ${r.where || r.id}`} /> {r.live ? "under way" : r.startedAt ? clock(r.startedAt) : r.endedAt && `before ${clock(r.endedAt)}`}{took && `, ${took}`}</span>
    </li>
  );
}
