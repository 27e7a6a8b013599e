// Access requests: asking, deciding, assuming.
import { useState } from "preact/hooks";
import { Failure, api, call } from "./api";
import { go, say, useSnapshot } from "./store";
import type { Request } from "./types";
import { Ago, Button, Check, CopyLink, Dialog, Facts, Field, Left, Mark, Search, Select, State, Text, Wrong, useLoaded } from "./ui";
import { apart, clock, matches, whatOf } from "./words";

// OneRequest shows a request by itself. A link may have the beginning of its id alone.
export function OneRequest({ id }: { id: string }) {
  const found = (useSnapshot().requests ?? []).filter((r) => r.id === id || (id.length >= 8 && r.id.startsWith(id)));
  const [r] = found;
  return (
    <section>
      <p class="crumb"><a href="#/access">Access</a></p>
      <h1 tabIndex={-1}>{r && found.length === 1 ? `Request of ${r.mine ? "yours" : (r.user ?? "")}` : `No request ${id}`}</h1>
      {r && found.length === 1 ? <Card request={r} /> : <p>It is of another cluster, or has lapsed. <a href="#/access">All requests</a></p>}
    </section>
  );
}

// Access lists the requests.
export function Access() {
  const all = (useSnapshot().requests ?? []).toSorted((a, b) => (b.createdAt ?? "").localeCompare(a.createdAt ?? ""));
  const [query, setQuery] = useState("");
  const shown = all.filter((r) => matches(query, r.user, r.reason, r.state, r.id, ...(r.roles ?? []), ...(r.resources ?? [])));
  const review = shown.filter((r) => r.reviewable && r.state === "pending");
  const mine = shown.filter((r) => r.mine && !review.includes(r));
  const others = shown.filter((r) => !r.mine && !review.includes(r));
  return (
    <section>
      <h1 tabIndex={-1}>Access</h1>
      <div class="bar">
        <Search label="Search requests" value={query} set={setQuery} />
        <Button kind="main" onPress={() => {
          go("/access/new");
        }}>Request access…</Button>
      </div>
      {all.length === 0 && <p>There is no request. With one you can get roles and resources for a while.</p>}
      {all.length > 0 && shown.length === 0 && <p>Nothing matches.</p>}
      <List title="Wait for your review" requests={review} />
      <List title="Yours" requests={mine} />
      <List title="Of others" requests={others} />
    </section>
  );
}

function List({ title, requests }: { title: string; requests: Request[] }) {
  if (requests.length === 0) return null;
  return (
    <>
      <h2 class="group">{title} <small>{requests.length}</small></h2>
      {requests.map((r) => <Card key={r.id} request={r} />)}
    </>
  );
}

function Card({ request: r }: { request: Request }) {
  const [asked, ask] = useState<"approve" | "deny" | "assume">();
  const close = (): void => {
    ask(undefined);
  };
  const has = r.assumed || (r.tunnels?.length ?? 0) > 0;
  return (
    <article class="card request">
      <header class="head">
        <h3><a href={`#/access/${encodeURIComponent(r.id)}`}>{r.mine ? whatOf(r) : `${apart(r.user ?? "")}: ${whatOf(r)}`}</a></h3>
        <State state={has ? "assumed" : r.state} word={has ? "Assumed" : undefined} />
        <span class="buttons">
          <CopyLink verb="request" to={r.id} />
          {r.reviewable && r.state === "pending" && (
            <>
              <Button kind="main" onPress={() => {
                ask("approve");
              }}>Approve…</Button>
              <Button onPress={() => {
                ask("deny");
              }}>Deny…</Button>
            </>
          )}
          {r.mine && r.assumable && !r.assumed && <Button kind={has ? undefined : "main"} onPress={() => {
            ask("assume");
          }}>Assume…</Button>}
          {has && (
            <Button onPress={async () => {
              await call("Drop", { ids: [r.id] });
              say(`Dropped ${whatOf(r)}`);
            }}>Drop</Button>
          )}
        </span>
      </header>
      <blockquote dir="auto">{r.reason || <span class="dim">No reason given.</span>}</blockquote>
      <Facts rows={[
        ["Roles", r.roles?.join(", ")],
        ["Resources", r.resources?.length ? <span key="r" class="tags">{r.resources.map((id) => <span key={id}>{id}</span>)}</span> : ""],
        ["Progress", r.state === "pending" && r.progress],
        ["Asked", r.createdAt && <Ago at={r.createdAt} />],
        ["Decided", r.resolveReason],
        ["Promoted to", r.promotedTo],
        ["Suggested reviewers", r.suggestedReviewers?.join(", ")],
        ["From", r.assumeFrom && clock(r.assumeFrom)],
        ["Access until", r.accessUntil && <>{clock(r.accessUntil)}, <Left until={r.accessUntil} /> left</>],
        ["Lapses", r.state === "pending" && r.expiresAt && clock(r.expiresAt)],
        ["For tunnels alone", r.tunnels?.join(", ")],
        ["Cluster", r.cluster],
        ["Request", <code key="i">{r.id}</code>],
      ]} />
      {(r.reviews?.length ?? 0) > 0 && (
        <ul class="reviews" aria-label="Reviews">
          {r.reviews?.map((v) => (
            <li key={`${v.author ?? ""} ${v.at ?? ""}`}>
              <State state={v.state ?? ""} /> <strong><bdi>{v.author}</bdi></strong> {v.reason && <q><bdi>{v.reason}</bdi></q>} {v.at && <span class="dim"><Ago at={v.at} /></span>}
            </li>
          ))}
        </ul>
      )}
      {(asked === "approve" || asked === "deny") && <DecideDialog request={r} approve={asked === "approve"} close={close} />}
      {asked === "assume" && <AssumeDialog request={r} close={close} />}
    </article>
  );
}

export function DecideDialog({ request: r, approve, close }: { request: Request; approve: boolean; close: () => void }) {
  const [reason, setReason] = useState("");
  const verb = approve ? "Approve" : "Deny";
  return (
    <Dialog title={`${verb} ${r.user ?? ""}’s request?`} close={close} verb={verb} bad={!approve} send={async () => {
      await call("Decide", { id: r.id, approve, reason });
      say(approve ? `Approved ${r.user ?? ""}’s request` : `Denied ${r.user ?? ""}’s request`);
    }}>
      <p>{r.user} asks for <strong>{whatOf(r)}</strong>{r.accessUntil && <> until {clock(r.accessUntil)}</>}.</p>
      <blockquote dir="auto">{r.reason || "No reason given."}</blockquote>
      <Text label="Your reason" value={reason} set={setReason} help={`${r.user ?? "The user"} and other reviewers read it.`} />
    </Dialog>
  );
}

export function AssumeDialog({ request: r, close }: { request: Request; close: () => void }) {
  const tunnels = (useSnapshot().tunnels ?? []).filter((t) => !r.profile || t.profile === r.profile);
  const [tunnel, setTunnel] = useState("");
  const [cost, setCost] = useState<string>();
  return (
    <Dialog title={`Assume ${whatOf(r)}`} close={close} verb={cost === undefined ? "Assume" : "Assume all the same"} bad={cost !== undefined} send={async () => {
      try {
        await call("Assume", { id: r.id, tunnel, acceptEarlierEnd: cost !== undefined });
        say(tunnel ? `${tunnel} has ${whatOf(r)} now` : `Assumed ${whatOf(r)}`);
      } catch (err) {
        if (err instanceof Failure && err.code === "confirm") {
          setCost(err.message);
          throw new Failure("confirm", "Assuming this costs something; see above.");
        }
        throw err;
      }
    }}>
      <Select label="For" value={tunnel} set={(t) => {
        setTunnel(t);
        setCost(undefined);
      }} options={[["", "The whole session"], ...tunnels.map((t) => [t.tunnelSpec.name, `Only ${t.tunnelSpec.name}`] as const)]} />
      <p>
        {tunnel
          ? `Only ${tunnel} gets the roles. Your session, tsh and every other tunnel stay as they are.`
          : "Your session gets the roles: every tunnel of this cluster and tsh too."}
        {" "}Open connections keep the roles they were opened with.
      </p>
      {r.accessUntil && <p class="dim">Until {clock(r.accessUntil)}.</p>}
      {cost !== undefined && <p class="wrong" role="alert"><Mark state="warn" /> {cost}</p>}
    </Dialog>
  );
}

const spans = [["", "As long as the session"], ["1800s", "30 minutes"], ["3600s", "1 hour"], ["14400s", "4 hours"], ["28800s", "8 hours"]] as const;
const kinds: Record<string, string> = { db: "db", kube: "kube_cluster" };
const atOnce = 50;

// NewRequest is the form to ask. What may be asked for is the cluster's to say.
export function NewRequest() {
  const profiles = useSnapshot().profiles ?? [];
  const [profile, setProfile] = useState(profiles[0]?.proxy ?? "");
  const [roles, setRoles] = useState<string[]>([]);
  const [resources, setResources] = useState<string[]>([]);
  const [reviewers, setReviewers] = useState<string[]>([]);
  const [reason, setReason] = useState("");
  const [lasts, setLasts] = useState("");
  const [start, setStart] = useState("");
  const [query, setQuery] = useState("");
  const [id, setID] = useState("");
  const [wrong, setWrong] = useState<Failure>();
  const may = useLoaded(() => api.abilities(profile, resources), [profile, resources]);
  const offer = useLoaded(api.resources, []);
  const cluster = profiles.find((p) => p.proxy === profile)?.cluster;
  const ids = (offer.value?.resources ?? []).map((r) => `/${r.cluster || (cluster ?? "")}/${kinds[r.kind] ?? r.kind}/${r.name}`);
  const found = [
    ...resources,
    ...ids.filter((each) => query !== "" && !resources.includes(each) && matches(query, each)).slice(0, atOnce),
  ];
  const toggle = (list: string[], one: string, on: boolean): string[] => (on ? [...list, one] : list.filter((each) => each !== one));
  const empty = roles.length === 0 && resources.length === 0;
  const send = async (): Promise<void> => {
    setWrong(undefined);
    try {
      await call("Create", {
        profile, roles, resources, reason, reviewers,
        ...(lasts && { for: lasts }), ...(start && { start: new Date(start).toISOString() }),
      });
      say("Your request is made. You see here when it is decided.");
      go("/access");
    } catch (err) {
      setWrong(err instanceof Failure ? err : new Failure("failed", String(err)));
    }
  };
  return (
    <section>
      <p class="crumb"><a href="#/access">Access</a></p>
      <h1 tabIndex={-1}>Request access</h1>
      <form class="card" onSubmit={(e) => {
        e.preventDefault();
      }}>
        {profiles.length > 1 && <Select label="Cluster" value={profile} set={(p) => {
          setProfile(p); // what another cluster offered is not to be asked of this one
          setRoles([]);
          setResources([]);
          setReviewers([]);
        }} options={profiles.map((p) => [p.proxy, p.cluster || p.proxy] as const)} />}
        {may.failed && <Wrong failure={may.failed} />}
        <fieldset>
          <legend>Roles</legend>
          {may.value && !may.value.roles?.length && <p class="dim">There is no role that you may ask for.</p>}
          {may.value?.roles?.map((role) => <Check key={role} label={role} checked={roles.includes(role)} set={(on) => {
            setRoles(toggle(roles, role, on));
          }} />)}
        </fieldset>
        <fieldset>
          <legend>Resources</legend>
          <Search label="Search resources" value={query} set={setQuery} />
          {query !== "" && found.length === 0 && <p class="dim">Nothing matches.</p>}
          {found.map((each) => <Check key={each} label={each} checked={resources.includes(each)} set={(on) => {
            setResources(toggle(resources, each, on));
          }} />)}
          <div class="bar">
            <Field label="One that is not listed, by its id" value={id} set={setID} placeholder={`/${cluster || "cluster"}/db/name`} />
            <Button disabled={!id.startsWith("/") || resources.includes(id)} onPress={() => {
              setResources([...resources, id.trim()]);
              setID("");
            }}>Add</Button>
          </div>
          {resources.length > 0 && may.value?.resourceRoles && <p class="dim">Through: {may.value.resourceRoles.join(", ") || "no role of yours"}</p>}
        </fieldset>
        <Text label="Reason" value={reason} set={setReason} required={may.value?.requireReason ?? false}
          help={may.value?.prompt || "Reviewers read it."} />
        <div class="pair">
          <Select label="For how long" value={lasts} set={setLasts} options={spans} />
          <Field label="From" type="datetime-local" value={start} set={setStart} help="Empty: at once" />
        </div>
        {(may.value?.reviewers?.length ?? 0) > 0 && (
          <fieldset>
            <legend>Suggested reviewers</legend>
            {may.value?.reviewers?.map((who) => <Check key={who} label={who} checked={reviewers.includes(who)} set={(on) => {
              setReviewers(toggle(reviewers, who, on));
            }} />)}
          </fieldset>
        )}
        {wrong && <Wrong failure={wrong} />}
        <p class="buttons">
          <Button onPress={() => {
            go("/access");
          }}>Cancel</Button>
          <Button kind="main" disabled={empty || ((may.value?.requireReason ?? false) && reason.trim() === "")} onPress={send}>Send request</Button>
        </p>
      </form>
    </section>
  );
}
