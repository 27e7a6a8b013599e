// Changing a tunnel in place, removing it, and getting it back.
import { useState } from "preact/hooks";
import { call } from "./api";
import { go, say, useSnapshot } from "./store";
import type { Tunnel, TunnelSpec } from "./types";
import { Dialog, Field, Select } from "./ui";
import { count, seconds } from "./words";

export function ChangeDialog({ tunnel, about, close }: { tunnel: Tunnel; about: "port" | "all"; close: () => void }) {
  // As it is now: what others change while the dialog is open stays, unless it is changed here too.
  const old = useSnapshot().tunnels?.find((t) => t.tunnelSpec.name === tunnel.tunnelSpec.name)?.tunnelSpec ?? tunnel.tunnelSpec;
  const db = old.kind === "db";
  const [changed, setChanged] = useState<Partial<TunnelSpec>>({});
  const [port, setPort] = useState(about === "port" ? String(count(old.port) + 1) : undefined);
  const [hold, setHold] = useState<string>();
  const spec: TunnelSpec = { ...old, ...changed };
  const put = (change: Partial<TunnelSpec>): void => {
    setChanged({ ...changed, ...change });
  };
  const send = async (): Promise<void> => {
    const next = { ...spec };
    if (port !== undefined) next.port = Number(port);
    if (hold === "") delete next.hold;
    else if (hold !== undefined) next.hold = `${Number(hold)}s`;
    await call("ChangeTunnel", { name: old.name, spec: next });
    say(`Changed ${next.name}`);
    if (next.name !== old.name) go("/tunnels");
  };
  return (
    <Dialog title={about === "port" ? `Change the port of ${old.name}` : `Change ${old.name}`} close={close} send={send} verb="Change">
      {about === "port" && tunnel.problem && <p>{tunnel.problem.text}</p>}
      {about === "all" && (
        <Field label="Name" value={spec.name} required set={(name) => {
          put({ name });
        }} />
      )}
      <Field label="Local port" type="number" min="1" max="65535" required value={port ?? String(count(old.port))} set={setPort}
        help="Programs that connect to the tunnel need the new port too." />
      {about === "all" && (
        <>
          {db && (
            <div class="pair">
              <Field label="Database user" value={spec.dbUser ?? ""} help="Empty: the client's choice" set={(dbUser) => {
                put({ dbUser });
              }} />
              <Field label="Database name" value={spec.dbName ?? ""} help="Empty: the client's choice" set={(dbName) => {
                put({ dbName });
              }} />
            </div>
          )}
          {!db && (
            <Field label="Act as this Kubernetes user" value={spec.as ?? ""} help="Empty: the client's choice" set={(as) => {
              put({ as });
            }} />
          )}
          <div class="pair">
            <Field label="Hold clients for (seconds)" type="number" min="0" max="600"
              value={hold ?? (old.hold === undefined ? "" : String(seconds(old.hold)))} set={setHold}
              help="How long a client waits for a login. Empty: 60" />
            <Select label="Engine" value={spec.engine || "auto"} options={engines} set={(engine) => {
              put({ engine });
            }} />
          </div>
          <Select label="Who may use it" value={spec.guard || "on"} options={guards} set={(guard) => {
            put({ guard });
          }} />
        </>
      )}
    </Dialog>
  );
}

const engines = [["auto", "Automatic"], ["native", "berth itself"], ["tsh", "tsh"]] as const;
const guards = [["on", "Only my own programs"], ["off", "Every user of this machine"]] as const;

// remove takes a tunnel out of the config at once, and offers it back.
export async function remove(tunnel: Tunnel): Promise<void> {
  const spec = tunnel.tunnelSpec;
  await call("RemoveTunnel", { name: spec.name });
  go("/tunnels");
  say(`Removed ${spec.name}`, {
    undo: () => {
      call("AddTunnel", { spec }).then(
        () => {
          say(`${spec.name} is back, on port ${count(spec.port)}`);
        },
        (err: unknown) => {
          say(`${spec.name} cannot come back: ${err instanceof Error ? err.message : ""}`, { bad: true });
        },
      );
    },
  });
}
