// The list of tunnels.
import { memo } from "preact/compat";
import { useEffect, useMemo, useState } from "preact/hooks";
import { api, call } from "./api";
import { Spark, programs, useClients } from "./live";
import { Needs } from "./needs";
import { startLogin } from "./login";
import { go, tunnelPath, useSnapshot } from "./store";
import type { Client, Request, Tunnel } from "./types";
import { Button, Field, Left, Search, State, attempt, copy } from "./ui";
import { bytes, clock, count, kindWords, latency, many, matches, whatOf } from "./words";

const rank: Record<string, number> = { error: 0, port_in_use: 0, waiting_for_login: 1, connecting: 2, ready: 3, stopped: 4 };
const byRank = (a: Tunnel, b: Tunnel): number =>
  (rank[a.state] ?? 2) - (rank[b.state] ?? 2) || a.tunnelSpec.name.localeCompare(b.tunnelSpec.name);

const groupings = [["", "No groups"], ["cluster", "Cluster"], ["state", "State"]] as const;

export function Tunnels() {
  const s = useSnapshot();
  const all = s.tunnels ?? [];
  const profiles = s.profiles ?? [];
  const roles = raised(s.requests ?? []);
  const [query, setQuery] = useState("");
  const [group, setGroup] = useState(localStorage.getItem("group") ?? "");
  const labels = useLabels(group);
  const clients = useClients(all);
  const groups = useMemo(() => {
    const found = all
      .filter((t) => {
        const spec = t.tunnelSpec;
        return matches(query, spec.name, spec.resource, spec.cluster, spec.dbUser, spec.dbName, t.address, t.protocol, t.state);
      })
      .sort(byRank);
    return grouped(found, group, labels);
  }, [all, query, group, labels]);
  const shown = groups.reduce((n, [, tunnels]) => n + tunnels.length, 0);
  if (all.length === 0) {
    return (
      <section>
        <h1 tabIndex={-1}>Tunnels</h1>
        {profiles.length === 0 ? <FirstLogin /> : (
          <>
            <Needs />
            <p class="first">You have no tunnel yet. A tunnel is a local port that always leads to the same database or Kubernetes cluster.</p>
            <Button kind="main" onPress={() => {
              go("/add");
            }}>Add a tunnel</Button>
          </>
        )}
      </section>
    );
  }
  return (
    <section>
      <h1 tabIndex={-1}>Tunnels <small>{summary(all)}</small></h1>
      <Needs />
      <div class="bar">
        <Search label="Search tunnels" value={query} set={setQuery} />
        <label class="inline">Group by <select value={group} onChange={(e) => {
          localStorage.setItem("group", e.currentTarget.value);
          setGroup(e.currentTarget.value);
        }}>
          {groupings.map(([value, label]) => <option value={value} key={value}>{label}</option>)}
          {labels.keys.map((label) => <option value={`label:${label}`} key={label}>Label {label}</option>)}
          {group.startsWith("label:") && !labels.keys.includes(group.slice(6)) && <option value={group}>Label {group.slice(6)}</option>}
        </select></label>
        <Button kind="main" onPress={() => {
          go("/add");
        }}>Add…</Button>
      </div>
      <p class="hidden" role="status">{query ? `${many(shown, "tunnel")} found` : ""}</p>
      {shown === 0 && <p>No tunnel matches “{query}”.</p>}
      {groups.map(([name, tunnels]) => (
        <div key={name}>
          {group !== "" && <h2 class="group">{name} <small>{tunnels.length}</small></h2>}
          <ul class="rows" aria-label={name || "Tunnels"}>
            {tunnels.map((t) => <Row key={t.tunnelSpec.name} tunnel={t} roles={roles.get(t.tunnelSpec.name)} clients={clients.get(t.tunnelSpec.name)} />)}
          </ul>
        </div>
      ))}
    </section>
  );
}

function summary(all: Tunnel[]): string {
  const ready = all.filter((t) => t.state === "ready").length;
  return ready === all.length ? `${all.length}, all ready` : `${ready} of ${all.length} ready`;
}

interface Labels {
  keys: string[];
  of: Map<string, Record<string, string>>;
}

const noLabels: Labels = { keys: [], of: new Map() };

// useLabels asks for the resources' labels once somebody groups at all: they are the
// clusters' to say.
function useLabels(group: string): Labels {
  const [labels, setLabels] = useState(noLabels);
  const wanted = group !== "";
  useEffect(() => {
    if (!wanted) return;
    void attempt(async () => {
      const { resources = [] } = await api.resources();
      const of = new Map(resources.filter((r) => r.tunnel).map((r) => [r.tunnel ?? "", r.labels ?? {}]));
      const keys = [...new Set([...of.values()].flatMap((l) => Object.keys(l)))].sort().slice(0, 30);
      setLabels({ keys, of });
    });
  }, [wanted]);
  return labels;
}

function grouped(tunnels: Tunnel[], by: string, labels: Labels): [string, Tunnel[]][] {
  const key = (t: Tunnel): string => {
    if (by === "cluster") return t.tunnelSpec.cluster || "No cluster";
    if (by === "state") return t.state.replaceAll("_", " ");
    if (by.startsWith("label:")) return labels.of.get(t.tunnelSpec.name)?.[by.slice(6)] ?? "Without this label";
    return "";
  };
  const groups = new Map<string, Tunnel[]>();
  for (const t of tunnels) {
    const name = key(t);
    const list = groups.get(name);
    if (list) list.push(t);
    else groups.set(name, [t]);
  }
  return by === "" ? [...groups] : [...groups].sort(([a], [b]) => a.localeCompare(b));
}

export const target = (t: Tunnel): string =>
  t.tunnelSpec.kind === "kube" ? `berth-${t.tunnelSpec.name}` : (t.address ?? "");

// raised says which tunnels alone have roles of an access request, and which roles.
export function raised(requests: Request[]): Map<string, string> {
  return new Map(requests.flatMap((r) => (r.tunnels ?? []).map((name) => [name, whatOf(r)] as const)));
}

interface Shown {
  tunnel: Tunnel;
  roles: string | undefined; // that it alone has
  clients: Client[] | undefined;
}

const Row = memo(function Row({ tunnel: t, roles, clients }: Shown) {
  const spec = t.tunnelSpec;
  const open = count(t.connections);
  const who = open > 0 && clients ? programs(clients) : "";
  return (
    <li class="row tunnel">
      <State state={t.state} />
      <div class="who">
        <a href={`#${tunnelPath(spec.name)}`} data-row><strong>{spec.name}</strong></a>
        {roles && <span class="raised">With {roles}, by an access request</span>}
        <span class="dim">{[t.protocol || kindWords[spec.kind], spec.resource, spec.cluster].filter(Boolean).join(" · ")}</span>
      </div>
      <span class="who where">
        <code>{t.address}</code>
        {t.certValidUntil && <span class="dim">cert until {clock(t.certValidUntil)}</span>}
      </span>
      <span class="who num">
        <span>
          {open > 0 && many(open, "client")}
          {count(t.waiting) > 0 && <span class="held"> {count(t.waiting)} waiting</span>}
        </span>
        {who && <span class="dim" title={who}>{who}</span>}
      </span>
      <span class="use num dim">
        <Spark name={spec.name} />
        <span>{[traffic(t), latency(t)].filter(Boolean).join(" · ")}</span>
      </span>
      <span class="buttons">
        {t.state === "stopped" ? (
          <Button label={`Start ${spec.name}`} onPress={() => call("StartTunnel", { name: spec.name })}>Start</Button>
        ) : t.state !== "port_in_use" && (
          <Button kind="plain" label={`Copy ${target(t)}`} onPress={() => copy(target(t), target(t))}>Copy</Button>
        )}
      </span>
      {t.problem && <p class="why">{t.problem.text}</p>}
    </li>
  );
});

function traffic(t: Tunnel): string {
  const all = count(t.bytesIn) + count(t.bytesOut);
  return all ? bytes(all) : "";
}

// FirstLogin is what a new user sees: where to log in is all that berth has to know.
export function FirstLogin() {
  const [proxy, setProxy] = useState("");
  return (
    <form class="card first" onSubmit={(e) => {
      e.preventDefault();
      startLogin({ proxy: proxy.trim() });
    }}>
      <h2>Log in to Teleport</h2>
      <p>berth needs the address of your Teleport proxy: the one that you open in a browser.</p>
      <Field label="Proxy" value={proxy} set={setProxy} placeholder="teleport.example.com" required />
      <p class="buttons"><button type="submit" class="main">Log in…</button></p>
    </form>
  );
}

export function CertLeft({ tunnel: t }: { tunnel: Tunnel }) {
  return t.certValidUntil ? <><Left until={t.certValidUntil} /> left</> : null;
}
