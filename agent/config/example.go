package config

// header begins a config file that berth makes.
const header = `# berth's configuration. The running agent follows every change.
#   berth config check     looks for mistakes
#   berth config schema    every key, as a JSON Schema for editors
version: 1
`

// starter follows the header in a file that a person is about to fill in.
const starter = `
# One local port for each database or Kubernetes cluster, as in:
#
# tunnels:
#   - {name: prod-pg, kind: db, cluster: example.com, resource: pg-prod, db_user: alice, db_name: app, port: 15432}
#   - {name: prod-k8s, kind: kube, cluster: example.com, resource: prod}
`

// Example is a config file with every key and a word on each.
func Example() string {
	return `# berth's configuration. The running agent follows every change; a file with
# mistakes changes nothing until they are mended ("berth config check").
version: 1

# The folders in which tsh keeps its logins. Default: $TELEPORT_HOME, or ~/.tsh.
homes: [~/.tsh]

# Settings per Teleport proxy; all but "proxy" may be left out.
profiles:
  - proxy: teleport.example.com:443
    # The connector for tsh login. Default: the cluster's.
    auth: okta
    # What opens its login pages, such as a browser's profile for work.
    browser: [firefox, -P, work]
    # What to do before a login ends: ask | auto | off.
    renew: {mode: ask, before: 15m}
    # The certificate authorities of the proxy's web certificate, if they are
    # not among the system's. "insecure: true" skips the check: for tests only.
    ca_file: ~/certs/proxy-ca.pem

# One local port for each database or Kubernetes cluster.
tunnels:
  - {name: prod-pg, kind: db, cluster: example.com, resource: pg-prod, db_user: alice, db_name: app, port: 15432}
  # The same, written out. Without a port, one is derived that is the same on
  # every machine.
  - name: orders
    kind: db
    cluster: example.com
    resource: orders-mysql
    port: 13306
    # How long a client waits for a login: 0s to 10m. Default: 60s.
    hold: 2m
    # Who carries the bytes: auto | native | tsh.
    engine: auto
    # off serves other users of this machine, and containers, too.
    guard: on
  # Tunnels to Kubernetes share a port, unless one is given here. Who to be
  # there, where roles leave the choice, may be said with as and as_groups.
  - {name: prod-k8s, kind: kube, cluster: example.com, resource: prod, as: alice, as_groups: [dev, ops]}

# The port that tunnels to Kubernetes share. Default: one that is the same on
# every machine.
kube: {port: 15440}

# When the desktop is told of what happens.
notifications: {enabled: true, quiet_hours: "22:00-07:00"}

# What happens about access requests unasked.
access:
  # Roles to take as soon as they are approved, for one tunnel or the session.
  auto_assume: [{roles: [dba], tunnel: prod-pg}]
  # Which requests to tell of: mine | reviewable (mine, and those that wait for
  # my review) | all.
  notify: reviewable
  # What becomes of connections whose roles are dropped: keep | close.
  on_drop: keep
  # Roles whose approval asks once more.
  sensitive: [admin, "prod-*"]
  # Programs to run; each gets the event as a line of JSON.
  hooks: [{on: [approved, denied], run: [/usr/local/bin/tell-me, --quietly], timeout: 30s}]

# What opens login pages. Default: $BROWSER, or the system's own.
browser: [firefox, --private-window]

# The tsh that does the logins. Default: the one on PATH.
tsh: {path: /usr/local/bin/tsh}

# What the agent writes to its log: debug | info | warn | error.
log: {level: info}
`
}
