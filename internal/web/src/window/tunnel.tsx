// One tunnel: how it is, how to connect, what happened to it.
import { useState } from "preact/hooks";
import { type Forms, api, call } from "./api";
import { ChangeDialog, remove } from "./change";
import { Chart } from "./chart";
import { programs, useClients } from "./live";
import { AskAccess } from "./needs";
import { useNow, useSnapshot } from "./store";
import type { Event, Tunnel } from "./types";
import { CertLeft, raised, target } from "./tunnels";
import { Ago, Button, CopyLink, Facts, Left, Mark, State, Wrong, copy, useLoaded } from "./ui";
import { bytes, clock, count, kindWords, latency, many, seconds } from "./words";

export function TunnelView({ name }: { name: string }) {
  const s = useSnapshot();
  const t = s.tunnels?.find((each) => each.tunnelSpec.name === name);
  if (!t) {
    return (
      <section>
        <h1 tabIndex={-1}>No tunnel {name}</h1>
        <p>It was removed or renamed. <a href="#/tunnels">All tunnels</a></p>
      </section>
    );
  }
  return <Known tunnel={t} roles={raised(s.requests ?? []).get(name)} key={name} />;
}

function Known({ tunnel: t, roles }: { tunnel: Tunnel; roles: string | undefined }) {
  const spec = t.tunnelSpec;
  const { name } = spec;
  const [changing, change] = useState<"port" | "all">();
  // What happened to it changes with these.
  const turn = `${t.state} ${count(t.totalConnections)} ${count(t.waiting)} ${t.problem?.code ?? ""}`;
  const who = useClients([t]);
  const history = useLoaded(() => api.history(name), [turn]);
  return (
    <section>
      <p class="crumb"><a href="#/tunnels">Tunnels</a></p>
      <header class="head">
        <h1 tabIndex={-1}>{name}</h1>
        <State state={t.state} />
        <span class="buttons">
          <CopyLink verb="add" to={name} />
          <Button onPress={() => {
            change("all");
          }}>Change…</Button>
          {t.state === "stopped"
            ? <Button kind="main" onPress={() => call("StartTunnel", { name })}>Start</Button>
            : <Button onPress={() => call("StopTunnel", { name })}>Stop</Button>}
          {t.state !== "stopped" && <Button onPress={() => call("RestartTunnel", { name })}>Restart</Button>}
          <Button kind="bad" onPress={() => remove(t)}>Remove</Button>
        </span>
      </header>
      {t.problem && (
        <div class="needs"><ul><li>
          <Mark state={t.state} />
          <div>
            <strong>{t.problem.title}</strong>
            <p>{t.problem.text}</p>
            {t.problem.action && <p class="dim">Next: {t.problem.action}</p>}
          </div>
          <div class="buttons">
            <AskAccess problem={t.problem} />
            {t.state === "port_in_use" && <Button kind="main" onPress={() => {
              change("port");
            }}>Change port…</Button>}
          </div>
        </li></ul></div>
      )}
      <div class="columns">
        <div>
        <div class="card">
          <h2>Now</h2>
          <Facts rows={[
            ["Address", <code key="a">{t.address}</code>],
            ["Leads to", [spec.resource, t.protocol || kindWords[spec.kind], spec.cluster].filter(Boolean).join(" · ")],
            ["As", [spec.dbUser || spec.as, spec.dbName].filter(Boolean).join(" · ")],
            ["Clients", clients(t)],
            ["Programs", programs(who.get(name) ?? [])],
            ["To the proxy", latency(t)],
            ["Bytes", `${bytes(count(t.bytesIn))} in, ${bytes(count(t.bytesOut))} out`],
            ["Certificate", t.certValidUntil && <CertLeft key="c" tunnel={t} />],
            ["Ends", t.endingAt && <span key="e">{many(count(t.endingConnections), "connection")} in <Left until={t.endingAt} /></span>],
            ["Runs as", t.runsAs],
            ["Has alone", roles && <span key="h" class="raised">{roles}, by an access request</span>],
            ["Engine", t.engineReason?.startsWith(t.engine ?? "") ? t.engineReason : [t.engine, t.engineReason].filter(Boolean).join(": ")],
            ["Holds clients", `${seconds(spec.hold) ?? 60} s`],
            ["Guard", t.guard],
            ["Turned away", t.foreignUser && <span key="f">a program of {t.foreignUser}{t.foreignAt && <>, <Ago at={t.foreignAt} /></>}</span>],
          ]} />
        </div>
        <div class="card">
          <h2>What happened</h2>
          {history.failed && <Wrong failure={history.failed} />}
          <History events={history.value?.events ?? []} />
        </div>
        </div>
        <Connect tunnel={t} />
      </div>
      <Charts name={name} turn={turn} />
      {changing && <ChangeDialog tunnel={t} about={changing} close={() => {
        change(undefined);
      }} />}
    </section>
  );
}

function clients(t: Tunnel): string {
  const held = count(t.waiting);
  const words = [`${many(count(t.connections), "connection")}, ${count(t.totalConnections)} since the start`];
  if (held) words.push(`${t.waitingClient || many(held, "client")} waits`);
  return words.join("; ");
}

const common: Record<string, string> = { url: "URL, for most clients and libraries", jdbc: "JDBC, for DBeaver and DataGrip" };
const others: Record<string, string> = { dsn: "DSN", env: "Environment", pgservice: "pg_service.conf", mycnf: "my.cnf" };

function Connect({ tunnel: t }: { tunnel: Tunnel }) {
  const { name } = t.tunnelSpec;
  const forms = useLoaded<Forms>(() => api.forms(name), [t.address, t.protocol, JSON.stringify(t.tunnelSpec)]);
  const urls = forms.value?.urls ?? [];
  return (
    <div class="card">
      <h2>Connect</h2>
      <Form name="Address" text={target(t)} />
      {forms.value?.client && <Form name="In a terminal" text={forms.value.client} />}
      {urls.filter((f) => f.name in common).map((f) => <Form key={f.name} name={common[f.name] ?? f.name} text={f.text} />)}
      {urls.some((f) => !(f.name in common)) && (
        <details>
          <summary>Other forms</summary>
          {urls.filter((f) => !(f.name in common)).map((f) => <Form key={f.name} name={others[f.name] ?? f.name} text={f.text} />)}
        </details>
      )}
      {forms.failed && <p class="dim">{forms.failed.message}</p>}
      <p class="dim">Leave the password empty: the tunnel brings the certificate.</p>
    </div>
  );
}

function Form({ name, text }: { name: string; text: string }) {
  return (
    <div class="form">
      <span>{name}</span>
      <pre>{text}</pre>
      <Button label={`Copy ${name}`} onPress={() => copy(text, name)}>Copy</Button>
    </div>
  );
}

function Charts({ name, turn }: { name: string; turn: string }) {
  const now = useNow(15_000);
  const plot = useLoaded(() => api.plot(name), [now, turn]).value;
  if (!plot || plot.at.length < 2) return null;
  return (
    <div class="charts">
      <Chart title="Connections" at={plot.at} lines={[["open", plot.connections]]} show={whole} />
      <Chart title="Bytes a second" at={plot.at} lines={[["in", plot.bytesIn], ["out", plot.bytesOut]]} show={rate} />
      <Chart title="Longest wait for a login" at={plot.at} lines={[["held", plot.heldMs]]} show={ms} />
      <Chart title="Longest time to connect" at={plot.at} lines={[["dial", plot.dialMs]]} show={ms} />
    </div>
  );
}

const whole = (n: number): string => (Number.isInteger(n) ? String(n) : "");
const rate = (n: number): string => bytes(Math.round(n));
const ms = (n: number): string => (n < 1000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`);

export function History({ events }: { events: Event[] }) {
  if (events.length === 0) return <p class="dim">Nothing yet.</p>;
  return (
    <ol class="history">
      {events.toReversed().map((e, i) => (
        <li key={i}>
          <time dateTime={e.at}>{clock(e.at)}</time>
          <span>{e.text}</span>
        </li>
      ))}
    </ol>
  );
}
