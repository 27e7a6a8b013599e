// Adding a tunnel from what the clusters offer.
import { useState } from "preact/hooks";
import { api, call } from "./api";
import { go, say, tunnelPath, useSnapshot } from "./store";
import type { Resource, TunnelSpec } from "./types";
import { Button, Dialog, Field, Search, Select, Wrong, useLoaded } from "./ui";
import { kindWords, many, matches } from "./words";

const atOnce = 100;

export function Add() {
  const offer = useLoaded(api.resources, []);
  const [query, setQuery] = useState("");
  const [chosen, choose] = useState<Resource>();
  const all = offer.value?.resources ?? [];
  const found = all.filter((r) => matches(query, r.name, r.cluster, r.protocol, r.description, ...labels(r)));
  return (
    <section>
      <h1 tabIndex={-1}>Add a tunnel</h1>
      <p class="dim">Choose a database or a Kubernetes cluster. Its local port stays the same from now on.</p>
      <Search label="Search what the clusters offer" value={query} set={setQuery} />
      {offer.failed && <Wrong failure={offer.failed} />}
      {offer.value?.unasked?.map((why) => <p class="wrong" key={why}>{why}</p>)}
      {offer.busy && <p class="dim" role="status">Asking the clusters…</p>}
      {offer.value && found.length === 0 && (
        <p>{all.length ? "Nothing matches." : "The clusters offer nothing to you. A role that you request may change that."}</p>
      )}
      <ul class="rows">
        {found.slice(0, atOnce).map((r) => (
          <li class="row offer" key={`${r.cluster ?? ""}/${r.kind}/${r.name}`}>
            <div class="who">
              <strong>{r.name}</strong>
              <span class="dim">{[r.protocol || kindWords[r.kind], r.cluster].filter(Boolean).join(" · ")}</span>
            </div>
            <div class="more">
              {r.description && <p>{r.description}</p>}
              <p class="tags">{labels(r).map((label) => <span key={label}>{label}</span>)}</p>
            </div>
            {r.tunnel ? (
              <a href={`#${tunnelPath(r.tunnel)}`}>Has tunnel {r.tunnel}</a>
            ) : (
              <Button kind="main" label={`Add ${r.name}…`} onPress={() => {
                choose(r);
              }}>Add…</Button>
            )}
          </li>
        ))}
      </ul>
      {found.length > atOnce && <p class="dim">{many(found.length - atOnce, "more")} — search to narrow the list.</p>}
      {chosen && <AddDialog resource={chosen} close={() => {
        choose(undefined);
      }} />}
    </section>
  );
}

const labels = (r: Resource): string[] => Object.entries(r.labels ?? {}).map(([key, value]) => `${key}=${value}`);

function AddDialog({ resource: r, close }: { resource: Resource; close: () => void }) {
  const taken = new Set((useSnapshot().tunnels ?? []).map((t) => t.tunnelSpec.name.normalize("NFKC").toLowerCase()));
  const users = (r.dbUsers ?? []).filter((u) => u !== "*");
  const names = (r.dbNames ?? []).filter((n) => n !== "*");
  const [name, setName] = useState(() => free(r.name, taken));
  const [dbUser, setUser] = useState(users.length === 1 ? (users[0] ?? "") : "");
  const [dbName, setDB] = useState(names.length === 1 ? (names[0] ?? "") : "");
  const send = async (): Promise<void> => {
    const spec: TunnelSpec = { name, kind: r.kind, cluster: r.cluster ?? "", resource: r.name, dbUser, dbName };
    const made = await call<{ spec: TunnelSpec }>("AddTunnel", { spec });
    say(`Added ${name}, on port ${String(made.spec.port ?? "")}`);
    go(tunnelPath(made.spec.name));
  };
  return (
    <Dialog title={`Add a tunnel to ${r.name}`} close={close} send={send} verb="Add">
      <Field label="Name" value={name} set={setName} required />
      {r.kind === "db" && (
        <div class="pair">
          <Choice label="Database user" value={dbUser} set={setUser} from={users} any={r.dbUsers?.includes("*") ?? false} />
          <Choice label="Database name" value={dbName} set={setDB} from={names} any={r.dbNames?.includes("*") ?? false} />
        </div>
      )}
    </Dialog>
  );
}

// Choice is one of those that the roles allow, or free where they allow any.
function Choice(props: { label: string; value: string; set: (value: string) => void; from: string[]; any: boolean }) {
  if (props.any || props.from.length === 0) {
    return <Field label={props.label} value={props.value} set={props.set} help="Empty: the client's choice" />;
  }
  return (
    <Select label={props.label} value={props.value} set={props.set}
      options={[["", "The client's choice"], ...props.from.map((v) => [v, v] as const)]} />
  );
}

// free is a name that no tunnel has, whatever its case: the agent takes no two that look the same.
function free(name: string, taken: Set<string>): string {
  const base = name.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "") || "tunnel";
  let next = base;
  for (let n = 2; taken.has(next); n++) next = `${base}-${n}`;
  return next;
}
