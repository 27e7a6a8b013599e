// The sessions: one per profile.
import { useState } from "preact/hooks";
import { call } from "./api";
import { startLogin } from "./login";
import { say, useNow, useSnapshot } from "./store";
import type { Profile, Request } from "./types";
import { FirstLogin } from "./tunnels";
import { Button, Facts, Left, State } from "./ui";
import { clock, many, whatOf } from "./words";

export function Sessions() {
  const s = useSnapshot();
  const profiles = s.profiles ?? [];
  const [another, add] = useState(profiles.length === 0);
  return (
    <section>
      <h1 tabIndex={-1}>Sessions</h1>
      {profiles.map((p) => (
        <Session key={`${p.proxy} ${p.home ?? ""}`} profile={p} tunnels={(s.tunnels ?? []).filter((t) => t.profile === p.proxy).length} requests={s.requests ?? []} />
      ))}
      {another ? <FirstLogin /> : <Button onPress={() => {
        add(true);
      }}>Log in to another cluster…</Button>}
    </section>
  );
}

const day = 12 * 3600_000;

const modes: Record<string, string> = {
  ask: "berth asks before it expires",
  auto: "berth renews it before it expires",
  off: "never",
};

function Session({ profile: p, tunnels, requests }: { profile: Profile; tunnels: number; requests: Request[] }) {
  const now = useNow();
  const name = p.cluster || p.proxy;
  const valid = p.validUntil !== undefined && (p.state === "valid" || p.state === "expiring");
  return (
    <article class="card">
      <header class="head">
        <h2>{name}</h2>
        <State state={p.state} />
        <span class="buttons">
          <Button kind={valid ? undefined : "main"} label={`${valid ? "Renew" : "Log in to"} ${name}`}
            onPress={() => {
        startLogin({ proxy: p.proxy, user: p.user ?? "", renew: valid });
      }}>{valid ? "Renew…" : "Log in…"}</Button>
          {valid && (
            <Button label={`Log out of ${name}`} onPress={async () => {
              await call("Logout", { proxy: p.proxy, user: p.user ?? "" });
              say(`Logged out of ${name}`);
            }}>Log out</Button>
          )}
          {(p.stored?.length ?? 0) > 0 && (
            <Button onPress={async () => {
              await call("ForgetLogin", { proxy: p.proxy, user: p.user ?? "" });
              say("The keychain no longer holds it");
            }}>Forget {p.stored?.join(" and ")}</Button>
          )}
        </span>
      </header>
      {valid && p.validUntil && (
        <p class="left">
          <progress aria-label={`Time left at ${name}`} max={day} value={Math.min(day, Date.parse(p.validUntil) - now)} />
          <span><Left until={p.validUntil} /> left, until {clock(p.validUntil)}</span>
        </p>
      )}
      {p.renewal?.problem && <p class="wrong">{p.renewal.problem.text} <span class="dim">{p.renewal.problem.action}</span></p>}
      <Facts rows={[
        ["Proxy", p.proxy],
        ["User", p.user],
        ["Roles", p.roles?.join(", ")],
        ["Assumed", p.activeRequests?.map((id) => whatOf(requests.find((r) => r.id === id) ?? {}) || id).join("; ")],
        ["Renew", modes[p.renewal?.mode ?? ""]],
        ["Next", p.renewal?.at && valid && clock(p.renewal.at)],
        ["Keychain", p.stored?.join(", ")],
        ["Tunnels", many(tunnels, "tunnel")],
        ["Folder", p.home],
      ]} />
    </article>
  );
}
