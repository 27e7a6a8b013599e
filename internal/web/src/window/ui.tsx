// The parts that the views are made of.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { type Failure, api, failure } from "./api";
import { say, useNow, useSnapshot } from "./store";
import { ago, clock, left, sentence, stateWord } from "./words";

// attempt does something for the person and says so when it fails.
export async function attempt(work: () => unknown): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (err) {
    const f = failure(err);
    say(sentence(f.message), { hint: sentence(f.hint), bad: true });
    return false;
  }
}

export function Button(props: {
  onPress: () => unknown;
  children: ComponentChildren;
  kind?: "main" | "bad" | "plain";
  label?: string;
  disabled?: boolean;
}) {
  const [busy, setBusy] = useState(false);
  const press = async (): Promise<void> => {
    if (busy) return;
    setBusy(true);
    await attempt(props.onPress);
    setBusy(false);
  };
  // While it works it is not disabled: the browser would take the focus from it, and whoever
  // uses the keyboard would be at the top of the page.
  return (
    <button
      type="button"
      class={props.kind}
      aria-label={props.label}
      disabled={props.disabled}
      aria-disabled={busy}
      onClick={() => {
        void press();
      }}
    >
      {props.children}
    </button>
  );
}

// shapes draw each mood so that it can be told without colour.
const shapes: Record<string, { mood: string; path: string }> = {
  good: { mood: "good", path: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM4.5 8.2 7 10.6l4.5-5" },
  busy: { mood: "busy", path: "M8 1.5a6.5 6.5 0 1 1-6.5 6.5" },
  wait: { mood: "wait", path: "M3.5 1.5h9M3.5 14.5h9M4.5 1.5c0 4 7 9 7 13M11.5 1.5c0 4-7 9-7 13" },
  warn: { mood: "warn", path: "M8 1.5 15 14H1zM8 6v4M8 11.6v.6" },
  bad: { mood: "bad", path: "M5 1.2h6L14.8 5v6L11 14.8H5L1.2 11V5zM5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" },
  off: { mood: "off", path: "M2.5 2.5h11v11h-11z" },
};

const moods: Record<string, string> = {
  ready: "good", valid: "good", approved: "good", ok: "good", assumed: "good",
  connecting: "busy", pending: "busy",
  waiting_for_login: "wait", expiring: "warn", warn: "warn",
  port_in_use: "bad", error: "bad", fail: "bad", denied: "bad", expired: "wait",
};

export function Mark({ state }: { state: string }) {
  const shape = shapes[moods[state] ?? "off"];
  return (
    <svg class={`mark ${shape?.mood ?? "off"}`} viewBox="0 0 16 16" aria-hidden="true">
      <path d={shape?.path} />
    </svg>
  );
}

export function State({ state, word }: { state: string; word?: string }) {
  return (
    <span class="state">
      <Mark state={state} />
      {word ?? stateWord(state)}
    </span>
  );
}

// Left and Ago count by themselves.
export function Left({ until }: { until: string }) {
  const now = useNow();
  return <time dateTime={until}>{left(until, now)}</time>;
}

export function Ago({ at }: { at: string }) {
  const now = useNow(10_000);
  return (
    <time dateTime={at} title={clock(at)}>
      {ago(at, now)}
    </time>
  );
}

export async function copy(text: string, what: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  say(`Copied ${what}`);
}

// CopyLink copies a berth:// link, for others to follow; no link is offered that no one may.
export function CopyLink({ verb, to, label }: { verb: "add" | "request" | "recording"; to: string; label?: string }) {
  if (useSnapshot().policy?.forbids?.includes("links: off")) return null;
  return (
    <Button kind="plain" label={label} onPress={async () => {
      const { link } = await api.link(verb, to);
      await copy(link, "the link");
    }}>Copy link</Button>
  );
}

// Dialog asks something. Escape and Cancel close it; done closes it after its form was sent.
export function Dialog(props: {
  title: string;
  close: () => void;
  children: ComponentChildren;
  send?: () => Promise<unknown>;
  verb?: string;
  buttons?: ComponentChildren;
  enter?: () => Promise<unknown>; // what its own submit button does
  bad?: boolean;
  ready?: boolean;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const title = useId();
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState<Failure>();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => {
      dialog?.close();
    };
  }, []);
  const { send } = props;
  const submit = async (): Promise<void> => {
    if (busy) return;
    setBusy(true);
    setWrong(undefined);
    try {
      await send?.();
      props.close();
    } catch (err) {
      setWrong(failure(err));
      setBusy(false);
    }
  };
  return (
    <dialog ref={ref} aria-labelledby={title} onCancel={props.close}>
      <form
        method="dialog"
        onSubmit={(e) => {
          e.preventDefault();
          void (props.enter ? attempt(props.enter) : submit());
        }}
      >
        <h2 id={title}>{props.title}</h2>
        {props.children}
        {wrong && <Wrong failure={wrong} />}
        <p class="buttons">
          <button type="button" onClick={props.close}>
            {send ? "Cancel" : "Close"}
          </button>
          {props.buttons}
          {send && (
            <button type="submit" class={props.bad ? "bad" : "main"} disabled={props.ready === false} aria-disabled={busy}>
              {props.verb}
            </button>
          )}
        </p>
      </form>
    </dialog>
  );
}

export function Wrong({ failure: f }: { failure: Failure }) {
  return (
    <p class="wrong" role="alert">
      <Mark state="error" /> {sentence(f.message)} {f.hint && <span class="dim">{sentence(f.hint)}</span>}
    </p>
  );
}

type Input = Omit<JSX.IntrinsicElements["input"], "value" | "onInput" | "label">;

export function Field(props: Input & { label: string; value: string; set: (value: string) => void; help?: string }) {
  const { label, value, set, help, autoFocus, ...rest } = props;
  const id = useId();
  const ref = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (autoFocus) ref.current?.focus(); // browsers heed the attribute when a page loads only
  }, [autoFocus]);
  return (
    <p class="field">
      <label for={id}>{label}</label>
      <input
        spellcheck={false}
        autocomplete="off"
        {...rest}
        ref={ref}
        id={id}
        value={value}
        aria-describedby={help ? `${id}-help` : undefined}
        onInput={(e) => {
          set(e.currentTarget.value);
        }}
      />
      {help && (
        <span class="dim" id={`${id}-help`}>
          {help}
        </span>
      )}
    </p>
  );
}

export function Text(props: { label: string; value: string; set: (value: string) => void; required?: boolean; help?: string }) {
  const id = useId();
  return (
    <p class="field">
      <label for={id}>{props.label}</label>
      <textarea
        id={id}
        rows={3}
        value={props.value}
        required={props.required}
        aria-describedby={props.help ? `${id}-help` : undefined}
        onInput={(e) => {
          props.set(e.currentTarget.value);
        }}
      />
      {props.help && (
        <span class="dim" id={`${id}-help`}>
          {props.help}
        </span>
      )}
    </p>
  );
}

export function Select(props: {
  label: string;
  value: string;
  set: (value: string) => void;
  options: readonly (readonly [value: string, label: string])[];
}) {
  const id = useId();
  return (
    <p class="field">
      <label for={id}>{props.label}</label>
      <select
        id={id}
        value={props.value}
        onChange={(e) => {
          props.set(e.currentTarget.value);
        }}
      >
        {props.options.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
    </p>
  );
}

export function Check(props: { label: ComponentChildren; checked: boolean; set: (on: boolean) => void }) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={props.checked}
        onChange={(e) => {
          props.set(e.currentTarget.checked);
        }}
      />
      <span>{props.label}</span>
    </label>
  );
}

export function Search(props: { label: string; value: string; set: (value: string) => void }) {
  return (
    <input
      type="search"
      class="search"
      aria-label={props.label}
      placeholder={`${props.label}  /`}
      value={props.value}
      spellcheck={false}
      autocomplete="off"
      onInput={(e) => {
        props.set(e.currentTarget.value);
      }}
      onKeyDown={(e) => {
        if (e.key === "Escape") props.set("");
      }}
    />
  );
}

// useLoaded is what load returns, undefined until it has, and again on call.
export function useLoaded<T>(load: () => Promise<T>, inputs: readonly unknown[]) {
  const [state, setState] = useState<{ value?: T; failed?: Failure; busy: boolean }>({ busy: true });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let wanted = true;
    setState((s) => ({ ...s, busy: true }));
    load().then(
      (value) => {
        if (wanted) setState({ value, busy: false });
      },
      (err: unknown) => {
        if (wanted) setState((s) => ({ ...s, failed: failure(err), busy: false }));
      },
    );
    return () => {
      wanted = false;
    };
  }, [...inputs, turn]);
  return {
    ...state,
    put: (value: T) => {
      setState({ value, busy: false });
    },
    again: () => {
      setTurn((n) => n + 1);
    },
  };
}

export function Facts({ rows }: { rows: [name: string, value: ComponentChildren][] }) {
  return (
    <dl>
      {rows
        .filter(([, value]) => value !== undefined && value !== "" && value !== false)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}
