// The messages of agent/ipc/berthv1 as protojson writes them, as far as the page
// uses them: a field at its zero value may be left out, int64 is text, and times are
// RFC 3339.

export type Int = string | number;

export interface Problem {
  code: string;
  title?: string;
  text?: string;
  action?: string;
  since?: string;
}

export interface TunnelSpec {
  name: string;
  kind: string;
  cluster?: string;
  resource?: string;
  dbUser?: string;
  dbName?: string;
  port?: Int;
  hold?: string;
  engine?: string;
  as?: string;
  asGroups?: string[];
  guard?: string;
  user?: string;
  recycle?: boolean;
  warm?: string;
}

export interface Tunnel {
  tunnelSpec: TunnelSpec;
  profile?: string;
  protocol?: string;
  address?: string;
  engine?: string;
  engineReason?: string;
  state: string;
  problem?: Problem;
  connections?: Int;
  waiting?: Int;
  totalConnections?: Int;
  staleConnections?: Int;
  bytesIn?: Int;
  bytesOut?: Int;
  certValidUntil?: string;
  waitingSince?: string;
  waitingClient?: string;
  guard?: string;
  foreignUser?: string;
  foreignAt?: string;
  runsAs?: string;
  endingConnections?: Int;
  endingAt?: string;
  latency?: string;
}

// Client is a program that is connected to a tunnel.
export interface Client {
  tunnel: string;
  program?: string;
  pid?: Int;
  connections?: Int;
}

export interface Profile {
  proxy: string;
  cluster?: string;
  user?: string;
  home?: string;
  roles?: string[];
  activeRequests?: string[];
  validUntil?: string;
  state: string;
  login?: { inProgress?: boolean; asks?: string };
  renewal?: { mode?: string; at?: string; warning?: string; problem?: Problem; renewedAt?: string };
  stored?: string[];
  heldRequests?: string[];
}

export interface Review {
  author?: string;
  state?: string;
  reason?: string;
  at?: string;
}

export interface Request {
  id: string;
  profile?: string;
  user?: string;
  roles?: string[];
  resources?: string[];
  reason?: string;
  state: string;
  createdAt?: string;
  expiresAt?: string;
  approvals?: Int;
  approvalsNeeded?: Int;
  reviews?: Review[];
  mine?: boolean;
  reviewable?: boolean;
  assumable?: boolean;
  assumed?: boolean;
  cluster?: string;
  resolveReason?: string;
  accessUntil?: string;
  sessionUntil?: string;
  assumeFrom?: string;
  promotedTo?: string;
  progress?: string;
  suggestedReviewers?: string[];
  tunnels?: string[];
}

export interface Agent {
  version?: string;
  pid?: Int;
  startedAt?: string;
  configPath?: string;
  draining?: Int;
}

// Cause is why some tunnels have a problem: one for all that have the same.
export interface Cause {
  tunnels: string[];
  text: string;
}

export interface Snapshot {
  agent?: Agent;
  profiles?: Profile[];
  tunnels?: Tunnel[];
  requests?: Request[];
  problems?: Problem[];
  causes?: Cause[];
  policy?: Policy;
}

// Policy is what the machine's owner binds: forbids has rules such as "links: off".
export interface Policy {
  banner?: string;
  forbids?: string[];
}

export interface Resource {
  name: string;
  kind: string;
  protocol?: string;
  description?: string;
  labels?: Record<string, string>;
  cluster?: string;
  tunnel?: string;
  dbUsers?: string[];
  dbNames?: string[];
}

export interface Event {
  at: string;
  kind: string;
  text: string;
  until?: string;
}

export interface Abilities {
  roles?: string[];
  resourceRoles?: string[];
  reviewers?: string[];
  requireReason?: boolean;
  prompt?: string;
}

export interface Recording {
  id: string;
  cluster?: string;
  kind?: string;
  user?: string;
  where?: string;
  login?: string;
  startedAt?: string;
  endedAt?: string;
  live?: boolean;
  interactive?: boolean;
}

// LoginStep is a step of a login.
export interface LoginStep {
  id?: Int;
  kind: string;
  text?: string;
  url?: string;
  proxy?: string;
  deadline?: string;
}
