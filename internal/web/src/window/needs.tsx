// What needs a person, on top of everything else: one cause, one line.
import { call } from "./api";
import { AssumeDialog, DecideDialog } from "./access";
import { startLogin } from "./login";
import { go, say, tunnelPath, useSnapshot } from "./store";
import type { Profile, Problem, Request, Snapshot, Tunnel } from "./types";
import { Button, Left, Mark } from "./ui";
import { ChangeDialog } from "./change";
import { apart, count, many, whatOf } from "./words";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

interface Need {
  id: string;
  mood: string;
  title: string;
  text: ComponentChildren;
  action?: string;
  buttons: ComponentChildren;
}

type Ask = (dialog: ComponentChildren) => void;

export function Needs() {
  const s = useSnapshot();
  const [dialog, ask] = useState<ComponentChildren>(null);
  const list = needs(s, ask);
  if (list.length === 0) return null;
  return (
    <section class="needs" aria-labelledby="needs">
      <h2 id="needs">{list.length === 1 ? "This needs you" : `${list.length} things need you`}</h2>
      <ul>
        {list.map((need) => (
          <li key={need.id}>
            <Mark state={need.mood} />
            <div>
              <strong>{need.title}</strong>
              <p dir="auto">{need.text}</p>
              {need.action && <p class="dim">Next: {need.action}</p>}
            </div>
            <div class="buttons">{need.buttons}</div>
          </li>
        ))}
      </ul>
      {dialog}
    </section>
  );
}

// needCount is how many lines Needs has.
export const needCount = (s: Snapshot): number => needs(s, () => undefined).length;

function needs(s: Snapshot, ask: Ask): Need[] {
  const tunnels = s.tunnels ?? [];
  return [
    ...(s.profiles ?? []).flatMap((p) => sessionNeeds(p, tunnels)),
    ...staleNeeds(tunnels),
    ...tunnelNeeds(s, ask),
    ...(s.requests ?? []).flatMap((r) => requestNeeds(r, ask)),
    ...(s.problems ?? []).map((p) => problemNeed(`problem ${p.code} ${p.text ?? ""}`, p.title || p.code, p)),
  ];
}

const problemNeed = (id: string, title: string, p: Problem, buttons: ComponentChildren = null): Need => ({
  id,
  mood: "error",
  title,
  text: p.text ?? "",
  action: p.action ?? "",
  buttons,
});

function sessionNeeds(p: Profile, all: Tunnel[]): Need[] {
  const name = p.cluster || p.proxy;
  const whose = `${p.proxy} ${p.home ?? ""}`; // other homes may have sessions at the proxy
  const waiting = all.filter((t) => t.profile === p.proxy && t.state === "waiting_for_login");
  const held = waiting.reduce((n, t) => n + count(t.waiting), 0);
  const first = waiting.find((t) => t.waitingClient);
  const login = (
    <Button kind="main" onPress={() => {
        startLogin({ proxy: p.proxy, user: p.user ?? "" });
      }}>
      Log in…
    </Button>
  );
  if (p.login?.inProgress) {
    return [{ id: `login ${whose}`, mood: "waiting_for_login", title: `A login at ${name} is under way`, text: asks[p.login.asks ?? ""] ?? "It waits for tsh.", buttons: login }];
  }
  if (p.state === "expired" || p.state === "logged_out" || waiting.length > 0) {
    const text = held
      ? `${first?.waitingClient || "A client"} waits for ${first?.tunnelSpec.name ?? "a tunnel"}${held > 1 ? `, and ${many(held - 1, "more client")}` : ""}.`
      : waiting.length ? `${many(waiting.length, "tunnel")} ${waiting.length === 1 ? "waits" : "wait"} for it.` : "There is no session.";
    return [{ id: `login ${whose}`, mood: held ? "error" : "waiting_for_login", title: `Log in to ${name}`, text, buttons: login }];
  }
  const found: Need[] = [];
  if (p.renewal?.warning && p.validUntil) {
    found.push({
      id: `renew ${whose}`,
      mood: "expiring",
      title: `Your session at ${name} expires soon`,
      text: <>It has <Left until={p.validUntil} /> left.</>,
      buttons: (
        <>
          <Button kind="main" onPress={() => {
        startLogin({ proxy: p.proxy, user: p.user ?? "", renew: true });
      }}>Renew…</Button>
          <Button onPress={async () => {
            await call("SnoozeRenewal", { proxy: p.proxy, user: p.user ?? "" });
            say("Snoozed the reminder");
          }}>Snooze</Button>
        </>
      ),
    });
  }
  if (p.renewal?.problem) found.push(problemNeed(`renewal ${whose}`, p.renewal.problem.title || "Renewing failed", p.renewal.problem, login));
  return found;
}

const asks: Record<string, string> = {
  url: "Finish it in your browser.",
  password: "It asks for your password.",
  otp: "It asks for a one-time code.",
  pin: "It asks for the PIN of your security key.",
  tap: "Touch your security key.",
};

function staleNeeds(all: Tunnel[]): Need[] {
  return all.filter((t) => count(t.staleConnections) > 0).map((t) => {
    const name = t.tunnelSpec.name;
    return {
      id: `stale ${name}`,
      mood: "warn",
      title: `${name}: connections with dropped roles`,
      text: `${many(count(t.staleConnections), "connection")} of this tunnel still ${count(t.staleConnections) === 1 ? "has" : "have"} roles that you dropped. A restart closes them.`,
      buttons: <Button onPress={() => call("RestartTunnel", { name })}>Restart</Button>,
    };
  });
}

function tunnelNeeds(s: Snapshot, ask: Ask): Need[] {
  const found: Need[] = [];
  const all = new Map((s.tunnels ?? []).map((t) => [t.tunnelSpec.name, t]));
  for (const cause of s.causes ?? []) {
    const tunnels = cause.tunnels.flatMap((name) => all.get(name) ?? []).filter((t) => t.state !== "waiting_for_login" && t.state !== "stopped");
    const [t] = tunnels;
    if (!t?.problem) continue;
    const names = tunnels.map((each) => each.tunnelSpec.name);
    const title = t.problem.title || t.problem.code;
    found.push(problemNeed(
      `cause ${names[0] ?? ""}`,
      names.length === 1 ? `${names[0] ?? ""}: ${title}` : `${names.length} tunnels: ${title}`,
      { ...t.problem, text: cause.text },
      <>
        {t.state === "port_in_use" && (
          <Button kind="main" onPress={() => {
            ask(<ChangeDialog tunnel={t} about="port" close={() => {
              ask(null);
            }} />);
          }}>Change port…</Button>
        )}
        <AskAccess problem={t.problem} />
        {names.length === 1 && <Button onPress={() => {
          go(tunnelPath(t.tunnelSpec.name));
        }}>Why?</Button>}
      </>,
    ));
  }
  return found;
}

// AskAccess leads to the form to ask, where roles are what a tunnel lacks: the agent says
// so by the command that asks.
export function AskAccess({ problem: p }: { problem: Problem }) {
  if (p.code !== "access_denied" && !p.action?.includes("berth request create")) return null;
  return (
    <Button kind="main" onPress={() => {
      go("/access/new");
    }}>Request access…</Button>
  );
}

function requestNeeds(r: Request, ask: Ask): Need[] {
  const what = whatOf(r);
  const close = (): void => {
    ask(null);
  };
  if (r.reviewable && r.state === "pending") {
    return [{
      id: `review ${r.id}`, mood: "warn", title: `${apart(r.user ?? "")} asks for ${what}`, text: r.reason || "No reason given.",
      buttons: (
        <>
          <Button kind="main" onPress={() => {
            ask(<DecideDialog request={r} approve close={close} />);
          }}>Approve…</Button>
          <Button onPress={() => {
            ask(<DecideDialog request={r} approve={false} close={close} />);
          }}>Deny…</Button>
        </>
      ),
    }];
  }
  if (r.mine && r.assumable && !r.assumed && !r.tunnels?.length) {
    return [{
      id: `assume ${r.id}`, mood: "approved", title: `Approved: ${what}`, text: r.resolveReason || "You can assume it now.",
      buttons: <Button kind="main" onPress={() => {
        ask(<AssumeDialog request={r} close={close} />);
      }}>Assume…</Button>,
    }];
  }
  return [];
}
