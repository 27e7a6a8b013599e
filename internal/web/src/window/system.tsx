// berth itself: doctor, log, settings, about.
import { useEffect, useState } from "preact/hooks";
import { type Finding, type Kept, api, call, version, write } from "./api";
import { startLogin } from "./login";
import { go, say, tunnelPath, useSnapshot } from "./store";
import { Ago, Button, Check, Facts, Field, Search, Select, State, Wrong, useLoaded } from "./ui";
import { matches } from "./words";

const urgent: Record<string, number> = { fail: 0, warn: 1, skip: 2, ok: 3 };

export function Doctor() {
  const report = useLoaded(api.doctor, []);
  const findings = (report.value?.findings ?? []).toSorted((a, b) => (urgent[a.status] ?? 1) - (urgent[b.status] ?? 1));
  const bad = findings.filter((f) => f.status === "fail").length;
  const odd = findings.filter((f) => f.status === "warn").length;
  const mendable = findings.filter((f) => f.mendable).length;
  const mend = async (name = ""): Promise<void> => {
    report.put(await write("/api/doctor/mend", { name })); // it says what was done, and what could not be
  };
  const title = report.busy ? "Looking…" : bad + odd === 0 ? "berth found nothing wrong" : `${bad} broken, ${odd} to look at`;
  return (
    <section>
      <h1 tabIndex={-1}>Doctor {report.value && <small>{title}</small>}</h1>
      <p class="bar">
        <Button onPress={report.again} disabled={report.busy}>Look again</Button>
        {mendable > 1 && <Button kind="main" onPress={() => mend()}>Mend {mendable} that are safe</Button>}
      </p>
      {report.busy && <p class="dim" role="status">berth looks at the agent, the config, tsh, the proxies and the tunnels. It takes 10 seconds at most.</p>}
      {report.failed && <Wrong failure={report.failed} />}
      <ul class="rows">
        {findings.map((f, i) => <Found key={`${f.check} ${i}`} finding={f} again={report.again} mend={() => mend(f.name)} />)}
      </ul>
    </section>
  );
}

// remedies are the next steps that the window can take: those that lead to a page or a
// question, and those that can be taken back. Each is known by the command that the
// doctor names.
const remedies: [command: RegExp, label: string, act: (name: string) => unknown][] = [
  [/\bberth login ([\w.:-]+:\d+)/, "Log in…", (proxy) => {
    startLogin({ proxy });
  }],
  [/\bberth login PROXY/, "Log in…", () => {
    go("/sessions");
  }],
  [/\bberth tunnel start ([\w.-]+)/, "Start", (name) => call("StartTunnel", { name })],
  [/\bberth tunnel why ([\w.-]+)/, "Why?", (name) => {
    go(tunnelPath(name));
  }],
  [/\bberth tunnel (?:set|change) ([\w.-]+) --port/, "Change port…", (name) => {
    go(tunnelPath(name));
  }],
  [/\bberth request (?:create|new)\b/, "Request access…", () => {
    go("/access/new");
  }],
  [/\bberth tunnel add\b/, "Add a tunnel…", () => {
    go("/add");
  }],
  [/\bberth tray install\b/, "Start the tray at login", () => write("/api/settings", { key: "start_tray", value: "true" })],
  [/\bberth config (?:check|edit)\b/, "Show the config", () => {
    go("/settings");
  }],
];

function remedy(fix: string): { label: string; act: () => unknown } | undefined {
  for (const [command, label, act] of remedies) {
    const found = command.exec(fix);
    if (found) return { label, act: () => act(found[1] ?? "") };
  }
  return undefined;
}

function Found({ finding: f, mend, again }: { finding: Finding; mend: () => Promise<void>; again: () => void }) {
  const help = f.status === "ok" ? undefined : remedy(f.fix ?? "");
  return (
    <li class="row finding">
      <State state={f.status} />
      <div>
        <p>{f.text}</p>
        {f.fix && <p class="dim">{f.fix}</p>}
        {f.fixed && <p class="dim">Mended: {f.fixed}</p>}
      </div>
      <span class="buttons">
        {f.mendable && <Button kind={f.status === "fail" ? "main" : undefined} onPress={mend}>Mend</Button>}
        {!f.mendable && help && <Button onPress={async () => {
          await help.act();
          if (location.hash === "#/doctor") again();
        }}>{help.label}</Button>}
      </span>
    </li>
  );
}

const lengths = [["200", "200"], ["1000", "1000"], ["5000", "5000"]] as const;

export function Log() {
  const [query, setQuery] = useState("");
  const [lines, setLines] = useState("200");
  const log = useLoaded(() => api.log(lines), [lines]);
  const shown = (log.value?.lines ?? []).filter((line) => matches(query, line)).toReversed();
  return (
    <section>
      <h1 tabIndex={-1}>Log</h1>
      <div class="bar">
        <Search label="Search the log" value={query} set={setQuery} />
        <label class="inline">Lines <select value={lines} onChange={(e) => {
          setLines(e.currentTarget.value);
        }}>{lengths.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select></label>
        <Button onPress={log.again}>Read again</Button>
      </div>
      {log.failed && <Wrong failure={log.failed} />}
      {log.value && <p class="dim">{log.value.path}, the newest first</p>}
      <pre class="log" role="region" tabIndex={0} aria-label="Log">{shown.join("\n")}</pre>
    </section>
  );
}

export function Settings() {
  const config = useLoaded(api.config, []);
  const now = config.value;
  return (
    <section>
      <h1 tabIndex={-1}>Settings</h1>
      {config.failed && <Wrong failure={config.failed} />}
      {now && (
        <>
          {now.settings.map((s) => (
            <Setting key={s.key} setting={s} changed={config.again} />
          ))}
          <div class="card">
            <h2>The config file</h2>
            <p class="dim">{now.path}</p>
            <pre class="log" role="region" tabIndex={0} aria-label="Config file">{now.text}</pre>
            <p class="buttons"><Button onPress={async () => {
              await call("ReloadConfig", {});
              config.again();
              say("The config is read again");
            }}>Read again</Button></p>
          </div>
        </>
      )}
    </section>
  );
}

function Setting({ setting: s, changed }: { setting: Kept; changed: () => void }) {
  const [value, setValue] = useState(s.value);
  useEffect(() => {
    setValue(s.value);
  }, [s.value]);
  const put = async (next: string): Promise<void> => {
    await write("/api/settings", { key: s.key, value: next });
    say(`${s.title}: saved`);
    changed();
  };
  const save = (next: string): void => {
    setValue(next);
    put(next).catch((err: unknown) => {
      setValue(s.value);
      say(err instanceof Error ? err.message : "It was not saved", { bad: true });
    });
  };
  return (
    <div class="card setting">
      {s.kind === "switch" && <Check label={s.title} checked={value === "true"} set={(on) => {
        save(String(on));
      }} />}
      {s.kind === "choice" && <Select label={s.title} value={value} set={save}
        options={(s.choices ?? []).map((c) => [c.value, c.words] as const)} />}
      {s.kind === "text" && (
        <div class="bar">
          <Field label={s.title} value={value} set={setValue} />
          <Button disabled={value === s.value} onPress={() => put(value)}>Save</Button>
        </div>
      )}
      <p class="dim">{s.help} {s.line ? `Line ${s.line} of the config.` : ""}</p>
    </div>
  );
}

export function About() {
  const agent = useSnapshot().agent ?? {};
  const licences = useLoaded(api.licenses, []);
  const topics = useLoaded(api.topics, []);
  return (
    <section>
      <h1 tabIndex={-1}>About</h1>
      <div class="card">
        <Facts rows={[
          ["berth", version],
          ["Agent", agent.version && `${agent.version}, process ${String(agent.pid ?? "")}`],
          ["Runs since", agent.startedAt && <Ago key="s" at={agent.startedAt} />],
          ["Config", agent.configPath],
        ]} />
        {agent.version && version && agent.version !== version && (
          <p class="wrong">The agent is of another version. “berth agent install” switches to this one.</p>
        )}
      </div>
      {topics.value && (
        <div class="card">
          <h2>How berth works</h2>
          {topics.value.topics.map((t) => (
            <details key={t.name}>
              <summary>{t.title}</summary>
              <pre class="log" role="region" tabIndex={0} aria-label={t.title}>{t.text}</pre>
            </details>
          ))}
        </div>
      )}
      {licences.value && (
        <details class="card">
          <summary>Licences of what berth is made of</summary>
          <pre class="log" role="region" tabIndex={0} aria-label="Licences">{licences.value.text}</pre>
        </details>
      )}
    </section>
  );
}
