// Logging in: where, and what tsh asks.
import { useEffect, useRef, useState } from "preact/hooks";
import { Failure, Login, type LoginRequest, call, failure } from "./api";
import { say, useSnapshot } from "./store";
import type { LoginStep } from "./types";
import { Button, Check, Dialog, Field, Left, Mark, Wrong } from "./ui";
import { many } from "./words";

let show: (request: LoginRequest | undefined) => void = () => undefined;

// startLogin opens the dialog of a login.
export function startLogin(request: LoginRequest): void {
  show(request);
}

// Logins is where the dialog is.
export function Logins() {
  const [request, setRequest] = useState<LoginRequest>();
  show = setRequest;
  return request && <LoginDialog key={`${request.proxy ?? ""} ${request.user ?? ""}`} request={request} close={() => {
    setRequest(undefined);
  }} />;
}

const tries = 3;

// wants says what a step asks for; those that are not here ask for nothing to type.
const wants: Record<string, string> = { password: "Password", otp: "One-time code", pin: "PIN of the security key" };

function LoginDialog({ request, close }: { request: LoginRequest; close: () => void }) {
  const s = useSnapshot();
  const profile = s.profiles?.find((p) => p.proxy === request.proxy);
  const waiting = (s.tunnels ?? []).filter((t) => t.profile === request.proxy && t.waitingClient);
  const [user, setUser] = useState(request.user ?? profile?.user ?? "");
  const [remember, setRemember] = useState(false);
  const [step, setStep] = useState<LoginStep>();
  const [secret, setSecret] = useState("");
  const [running, setRunning] = useState(false);
  const [wrong, setWrong] = useState<Failure>();
  const failed = useRef(0);
  const place = useRef(""); // by its cluster's name, once that is known
  place.current = profile?.cluster || (request.proxy ?? "") || "Teleport";
  const login = useRef<Login>();
  useEffect(() => () => login.current?.leave(), []);

  const run = async (): Promise<void> => {
    setRunning(true);
    const current = new Login();
    login.current = current;
    try {
      await current.run({ ...request, user, remember }, (next) => {
        if (next.kind === "settled") {
          setStep((now) => (now?.id === next.id ? undefined : now));
          return;
        }
        setStep(next);
        setSecret("");
      });
      say(`Logged in at ${place.current}`);
      close();
    } catch (err) {
      setWrong(failure(err));
      setStep(undefined);
      setSecret("");
      setRunning(false);
      failed.current++;
    }
  };
  const send = async (): Promise<void> => {
    setWrong(undefined);
    if (!running) {
      void run();
      return;
    }
    if (!step || !(step.kind in wants)) return;
    const typed = secret;
    setSecret("");
    setStep({ kind: "info", text: "Checking…" });
    await login.current?.answer(step, typed);
  };
  const asks = step && wants[step.kind];
  return (
    <Dialog
      title={`Log in to ${place.current}`}
      close={close}
      enter={send}
      buttons={
        <>
          {running && <Button onPress={() => call("CancelLogin", { proxy: request.proxy ?? "", user })}>Stop the login</Button>}
          {(asks || (!running && failed.current < tries)) && <button type="submit" class="main">{asks ? "Continue" : "Log in"}</button>}
        </>
      }
    >
      {waiting.map((t) => (
        <p key={t.tunnelSpec.name}><Mark state="waiting_for_login" /> {t.waitingClient} waits for {t.tunnelSpec.name}.</p>
      ))}
      {!running && (
        <>
          <Field label="Teleport user" value={user} set={setUser} help="Empty: the name that tsh takes" />
          <Check label="Remember the password in the system’s keychain" checked={remember} set={setRemember} />
        </>
      )}
      {running && !asks && <p role="status">{stepWords(step)}</p>}
      {step?.kind === "url" && step.url && <p><a href={safe(step.url)} target="_blank" rel="noreferrer">Open the login page</a></p>}
      {step?.deadline && <p class="dim">tsh waits for <Left until={step.deadline} />.</p>}
      {asks && (
        <>
          {step.text && <p>{step.text}</p>}
          <Field key={String(step.id)} label={asks} type={step.kind === "otp" ? "text" : "password"} value={secret} set={setSecret} required
            inputMode={step.kind === "password" ? "text" : "numeric"} autoFocus />
        </>
      )}
      {wrong && <Wrong failure={wrong} />}
      {wrong && failed.current < tries && <p class="dim">Try again: {many(tries - failed.current, "try", "tries")} left.</p>}
    </Dialog>
  );
}

function stepWords(step: LoginStep | undefined): string {
  switch (step?.kind) {
    case undefined:
      return "Starting tsh…";
    case "url":
      return step.text || "Finish the login in your browser.";
    case "tap":
      return step.text || "Touch your security key.";
    default:
      return step?.text || "tsh works on it…";
  }
}

// safe lets pass what a browser opens as a page; other addresses lead nowhere.
function safe(url: string): string | undefined {
  return /^https?:\/\//.test(url) ? url : undefined;
}
