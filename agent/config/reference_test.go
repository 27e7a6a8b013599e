package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	generator "github.com/invopop/jsonschema"

	"berth/agent/state"
	"berth/internal/doctest"
)

var update = flag.Bool("update", false, "rewrite docs/CONFIG.md and docs/POLICY.md")

const referenceHead = `# Configuration

` + "`berth config path`" + ` prints where the file is, ` + "`berth config edit`" + ` opens it and checks it afterwards, and ` + "`berth config check`" + `
names every mistake with its line. The agent follows every change by itself and touches only what changed; a file with
mistakes changes nothing, the last good one goes on. What berth writes into it (` + "`berth tunnel add db`" + `) leaves comments, order
and line endings as they are.

The file holds no secret and is meant for version control: without a port of its own a tunnel gets one that follows from
kind, cluster and resource, the same on every machine.

This page is made from the schema that the agent checks the file with. Editors take it from ` + "`berth config schema`" + `.

## A file with every key

`

// TestDocsConfigReference keeps docs/CONFIG.md what the schema says.
func TestDocsConfigReference(t *testing.T) {
	var schema generator.Schema
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s```yaml\n%s```\n", referenceHead, fullExample())
	describeKeys(&b, "", &schema)
	doctest.Made(t, filepath.Join("..", ".."), "CONFIG.md", b.String(), *update)
	if rows := strings.Count(b.String(), "\n| `"); rows < 40 {
		t.Errorf("the reference has %d keys: the walk over the schema is broken", rows)
	}
}

const policyHead = `# A policy for a fleet

If you look after many machines, one file on each binds the berth of all its users:

| system | policy |
|---|---|
| Linux | ` + "`/etc/berth/policy.yaml`" + ` |
| macOS | ` + "`/Library/Application Support/berth/policy.yaml`" + ` |
| Windows | ` + "`%ProgramData%\\berth\\policy.yaml`" + ` |

It overrules users' config files. A user's setting that it forbids has no effect, and the rest of their file works as before:
` + "`berth status`, `berth doctor` and `berth config check`" + ` name the setting, the policy and its line, and a command that would do
what is forbidden fails with the same words. The agent follows every change of the file within seconds.

**Owner.** The file, its folder and every folder above must belong to root and be writable by no one else, except by a group where
a folder has the sticky bit. On Windows they must belong to Administrators, SYSTEM or TrustedInstaller, and no other account may
change or replace them. If the file is a link, the same goes for the folders on its way. No environment variable and no flag names
another file, and ` + "`BERTH_HOME`" + ` does not change this.

**Mistakes.** berth fails closed. If it cannot trust or read the policy, every rule holds at its strictest: no proxy is allowed and
no client is held. The same goes for a link to a file that is missing, as on a disk that is not mounted, and for a folder without
a policy that others can write to. If single rules have mistakes or are empty, these hold at their strictest and the others as
written. After an unknown key, which may be a misspelt rule, every rule that the file lacks holds at its strictest too. A running
agent keeps the proxies and tunnels that the policy allowed and shipped before, and every proxy if there was no policy. Status,
doctor and the agent's log name the mistakes, so check a file before you install it:

` + "```sh" + `
berth config check --policy policy.yaml
berth config schema --policy > policy.schema.json
` + "```" + `

The first also names the mistakes of included files and what the policy leaves without effect in them, and says whether the owner and mode of each would do once it is installed.

**Files that you ship.** ` + "`include`" + ` names files in the format of [a config file](CONFIG.md), with the same owner as the policy. Their tunnels come
first. Users can stop and start them, but not change or remove them; their names, every name that looks the same, and their written
ports are reserved: a user's tunnel of such a name is left out, and one with such a port gets another.
` + "`berth status NAME`" + ` and ` + "`shipped_in` of `berth status --json`" + ` name the file that a tunnel comes from. Everything else in
such a file is a default, which a key of the user's own file overrides. A rule of the user's [access.auto_assume](ACCESS-REQUESTS.md) may name
a tunnel that you ship; once you no longer ship it, the rule has no effect and the rest of the file has.

**What it is not.** berth runs as its user, who can run another program instead, or ` + "`tsh`" + ` itself. A policy keeps a config file,
a flag or a click from loosening what you decided; what a user may reach is decided by your cluster's roles
([security model](SECURITY-MODEL.md)). No policy binds the agent of ` + "`berth-demo`" + `, which leads only to a simulated cluster of its own;
berth's commands obey the policy there, too.

## A file with every key

`

// policyExample is a policy with every key and a word on each.
const policyExample = `version: 1

# The first line of berth status.
banner: "Managed by Example IT: ask in #berth"

# What config files cannot loosen.
insecure: false
guard: "on"
remember: false
renew: {auto: false}
hold: 30s
proxies: [teleport.example.com, "*.teleport.example.com:3080"]

# What is switched off.
metrics: "off"
telemetry: "off"
links: "off"
window: "off"
recordings: {export: "off"}

# Tunnels and defaults for everyone.
include: [tunnels.yaml]
`

// TestDocsPolicyReference keeps docs/POLICY.md what the schema says.
func TestDocsPolicyReference(t *testing.T) {
	p := writePolicy(t, strings.Replace(policyExample, "include: [tunnels.yaml]", "", 1)).Load()
	if p.Err != nil || len(p.Forbids()) != len(policyKeys) {
		t.Errorf("the example forbids %q: %v", p.Forbids(), p.Err)
	}
	var schema generator.Schema
	if err := json.Unmarshal(PolicySchema(), &schema); err != nil {
		t.Fatal(err)
	}
	for key := schema.Properties.Oldest(); key != nil; key = key.Next() {
		if !strings.Contains(policyExample, "\n"+key.Key+": ") && key.Key != "version" {
			t.Errorf("the example does not show %s", key.Key)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s```yaml\n%s```\n", policyHead, policyExample)
	describeKeys(&b, "", &schema)
	doctest.Made(t, filepath.Join("..", ".."), "POLICY.md", b.String(), *update)
}

// describeKeys writes a table of the keys of an object, and after it those of
// the objects it holds.
func describeKeys(b *strings.Builder, at string, s *generator.Schema) {
	if at == "" {
		b.WriteString("\n## The keys at the top\n")
	} else {
		fmt.Fprintf(b, "\n## %s\n\n%s\n", at, s.Description)
	}
	b.WriteString("\n| key | value | meaning |\n|---|---|---|\n")
	required := make(map[string]bool)
	for _, key := range s.Required {
		required[key] = true
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.Key, allowed(p.Value, required[p.Key]), cell(p.Value.Description))
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		name := strings.TrimPrefix(at+"."+p.Key, ".")
		switch {
		case p.Value.Type == "object":
			describeKeys(b, name, p.Value)
		case p.Value.Type == "array" && p.Value.Items.Type == "object":
			item := *p.Value.Items
			item.Description = "A list. " + p.Value.Description
			describeKeys(b, name, &item)
		}
	}
}

// allowed says what may stand behind a key.
func allowed(s *generator.Schema, required bool) string {
	var parts []string
	switch {
	case len(s.Enum) > 0:
		var words []string
		for _, e := range s.Enum {
			words = append(words, fmt.Sprintf("`%v`", e))
		}
		parts = append(parts, strings.Join(words, ", "))
	case s.Pattern == durationPattern:
		parts = append(parts, "duration")
	case s.Type == "array" && s.Items.Type == "object", s.Type == "object":
		parts = append(parts, "see below")
	case s.Type == "array":
		parts = append(parts, "list")
	default:
		parts = append(parts, map[string]string{"string": "text", "integer": "number", "boolean": "`true`, `false`"}[s.Type])
	}
	if s.Default != nil && s.Default != false {
		parts = append(parts, fmt.Sprintf("default `%v`", s.Default))
	}
	if required {
		parts = append(parts, "**required**")
	}
	return strings.Join(parts, "; ")
}

// cell leaves nothing in a text that would end a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// fullExample is a config file with every key and a word on each.
func fullExample() string {
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
  # The same, written out.
` + exampleTunnel(state.KindDB, map[string]string{"name": "orders", "resource": "orders-pg", "port": "15433"}) + `
  # A tunnel to Kubernetes has most keys too, and some of its own.
` + exampleTunnel(state.KindKube, map[string]string{"name": "prod-k8s", "resource": "prod", "port": "15441"}) + `
# The port that tunnels to Kubernetes share. Default: one that is the same on
# every machine.
kube: {port: 15440}

# When the desktop shows notifications.
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

# How long a replaced agent serves the connections that are open then.
handover_grace: 24h

# What the agent writes to its log: debug | info | warn | error.
log: {level: info}

# Health checks and metrics, on a port of this machine alone or a Unix socket.
metrics:
  enabled: true
  listen: 127.0.0.1:9090
  # What stands for a tunnel: hashed | names.
  labels: hashed
  # Go's profiles too.
  pprof: false

# Counts, for you alone, how berth is used: off | local. Nothing is sent.
telemetry: {mode: local}

# How much of each thing there may be.
limits:
` + exampleLimits()
}

// exampleLimits is every limit at its default.
func exampleLimits() string {
	var b strings.Builder
	for _, k := range limitKeys {
		fmt.Fprintf(&b, "  %s: %d\n", k.Name, k.Default)
	}
	return b.String()
}

// exampleTunnel is a tunnel with every key of its kind; one of a kind of its own
// where another kind has shown the common ones.
func exampleTunnel(kind state.Kind, values map[string]string) string {
	var b strings.Builder
	lead := "  - "
	for _, k := range TunnelKeys {
		if !k.For(kind) || !k.need && kind != state.Kinds[0].Kind && len(k.Kinds) == 0 && k.Name != "port" {
			continue
		}
		if k.Flag != "" && !k.need {
			usage := k.Usage(kind)
			fmt.Fprintf(&b, "    # %s%s.", strings.ToUpper(usage[:1]), usage[1:])
			if k.Default() != "" {
				fmt.Fprintf(&b, " Default: %s.", k.Default())
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s%s: %s\n", lead, k.Name, exampleValue(k, kind, values))
		lead = "    "
	}
	return b.String()
}

func exampleValue(k Key, kind state.Kind, values map[string]string) string {
	switch {
	case values[k.Name] != "":
		return values[k.Name]
	case k.Name == "kind":
		return string(kind)
	case k.rules.Items != nil:
		return fmt.Sprint(k.rules.Items.Examples)
	case k.Default() != "":
		return k.Default()
	default:
		return fmt.Sprint(k.rules.Examples[0])
	}
}
