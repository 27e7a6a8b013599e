package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	generator "github.com/invopop/jsonschema"

	"berth/agent/state"
)

// descriptions are what the schema, and so editors and the reference, say of
// each key: the Go type, or the type and the field.
var descriptions = map[string]string{
	"Config": "What berth keeps open and how it behaves. The running agent follows every change of the file; " +
		"a file with mistakes changes nothing until they are mended.",
	"Config.Version": "The version of the file's format.",
	"Config.Homes": "The folders in which tsh keeps its logins, each absolute or starting with ~/. All are " +
		"watched. Without any, $TELEPORT_HOME is, or ~/.tsh.",
	"Config.Profiles":      "Settings per Teleport proxy. A proxy needs no entry unless something differs from the defaults.",
	"Config.Tunnels":       "The local ports to keep open, one for each database or Kubernetes cluster.",
	"Config.Kube":          "What the tunnels to Kubernetes clusters share.",
	"Config.Notifications": "When the desktop shows notifications.",
	"Config.Access":        "What berth does about access requests unasked.",
	"Config.TSH":           "Which tsh does the logins.",
	"Config.Browser": "The command that opens login pages, program and arguments one by one; %s stands for the address, " +
		"which otherwise comes last. There is no shell in between. Empty means $BROWSER, or the system's own.",
	"Config.HandoverGrace": "How long an agent that was replaced, as by an upgrade, serves the connections that are open " +
		"then, from 0s to 168h. New connections go to the new agent at once.",
	"Config.Log":     "What the agent writes to its log.",
	"Config.Limits":  "How much of each thing there may be, so that no program or cluster can use up this machine.",
	"Config.Metrics": "Health checks and metrics for monitoring, which only your own programs on this machine can ask for.",
	"Config.Telemetry": "Whether berth counts, for you alone, which of its features are used. It never sends the numbers anywhere: " +
		"see PRIVACY.md.",

	"Profile.Proxy": "The proxy's address, host:port; the port may be left out when it is 443. It decides which logins " +
		"the settings are for.",
	"Profile.Auth": "The name of the connector with which tsh logs in, as in tsh login --auth. Empty means the " +
		"cluster's default.",
	"Profile.Renew": "What happens before the login ends.",
	"Profile.Browser": "The command that opens this proxy's login pages, instead of the one of the whole file: so that a " +
		"login can go to another browser, or to another profile of it.",
	"Profile.CAFile": "A PEM file with the certificate authorities that signed the proxy's web certificate, absolute " +
		"or starting with ~/. Empty means that the system's own are asked.",
	"Profile.Insecure": "Do not verify the proxy's web certificate. Whoever can divert the traffic can then pose as the " +
		"proxy, so this is for tests only, and berth warns of it for as long as it is set.",

	"renew.Mode":   "ask offers a new login in a notification, auto starts it unasked, off lets the login end.",
	"renew.Before": "How long before its end a login is renewed, as in 15m or 1h30m: from 1m to 24h.",

	"kube.Port": "The local port, from 1024 to 65535, of all tunnels of kind kube that have none of their own. Without " +
		"one it is the same on every machine.",
	"notifications.Enabled": "Whether notifications are shown.",
	"notifications.QuietHours": "The time of day, local, in which none is shown, as in 22:00-07:00. Empty means that " +
		"there is no such time.",

	"Access.AutoAssume": "Which access requests are assumed as soon as they are approved, without a question: not even when the " +
		"session ends earlier with their roles.",
	"Access.Notify": "Which access requests get notifications: mine, those and the ones that wait for my review (reviewable), " +
		"or all that I may see.",
	"Access.OnDrop": "What becomes of connections that were opened with roles that are dropped: keep leaves and marks " +
		"them, close closes them.",
	"Access.Sensitive": "The roles that are approved, in the menu or a notification, only after one more question. * stands " +
		"for anything, as in prod-*.",
	"Access.Hooks": "Programs that are run when something happens to an access request.",

	"autoAssume.Roles":  "The rule is for requests all of whose roles are among these.",
	"autoAssume.Tunnel": "The tunnel that alone gets the roles. Empty means that the whole session does.",

	"hook.On": "The events it is run for: created, review_asked, reviewed, approved, denied, promoted, assumable, " +
		"assumed, dropped, ends_soon, expired, deleted. Empty means all.",
	"hook.Run": "The program and its arguments, one by one; there is no shell in between. The event is its standard " +
		"input, one line of JSON.",
	"hook.Timeout": "How long it may run, from 1s to 10m.",

	"tsh.Path": "The tsh to run, absolute or starting with ~/. Empty means the one on PATH.",

	"logging.Level": "The least severe lines that are logged.",

	"policyRules": "What the berth of every user of this machine obeys, whatever their config files say. A policy with mistakes " +
		"fails closed: the rules that cannot be read hold at their strictest.",
	"policyRules.Version":  "The version of the file's format.",
	"policyRules.Banner":   "A line of text that berth status and the window show first.",
	"policyRules.Insecure": "false has every proxy's web certificate verified: insecure: true in a config file has no effect.",
	"policyRules.Guard": "on serves only programs of the user who runs berth: guard: off in a config file has no " +
		"effect.",
	"policyRules.Remember": "false stores no password and no one-time code's seed in the keychain, and uses none that is there.",
	"policyRules.Renew":    "How sessions are renewed.",
	"policyRules.Hold":     "The longest time for which a client is held while a login is needed, as in 30s: from 0s to 10m.",
	"policyRules.Proxies": "The only proxies at which berth logs in and to which its tunnels lead, host:port each; the port may be " +
		"left out when it is 443. *.example.com is every host below example.com. Sessions at other proxies are not used.",
	"policyRules.Metrics":    "off keeps the agent from serving metrics.",
	"policyRules.Telemetry":  "off keeps berth from counting how it is used, on this machine too.",
	"policyRules.Links":      "off has berth:// links do nothing.",
	"policyRules.Window":     "off keeps the window closed, and closes one that is open.",
	"policyRules.Recordings": "What may be done with session recordings.",
	"policyRules.Include": "Files with defaults and tunnels for everyone, in the format of a config file; absolute, or from the " +
		"policy's folder. What a user's file says comes before a default; a tunnel, its name and its port are reserved.",
	"renewRule.Auto":        "false starts no login unasked: renew.mode auto in a config file means ask.",
	"recordingsRule.Export": "off keeps recordings from leaving berth: berth recording export and the window refuse, cat and events print on a terminal alone.",
	"Metrics.Enabled":       "Whether they are served. Without it, they are where another of these keys is set.",
	"Metrics.Listen": "Where: an IP address of this machine alone and a port, as in 127.0.0.1:9090, or the path of a Unix " +
		"socket. Empty means berth's own socket, metrics.sock beside the agent's.",
	"Metrics.Labels": "What stands for a tunnel in metrics: hashed is a pseudonym that only this installation makes, " +
		"names is its name.",
	"telemetry.Mode": "off counts nothing, local counts into a small file of this machine: berth telemetry explain says what.",
	"Metrics.Pprof":  "Whether Go's profiles of the agent are served too, under /debug/pprof/.",
}

// durationPattern matches durations in the schema; time.ParseDuration
// has the last word.
const durationPattern = `^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$`

// durationSchema describes a state.Duration to the generator.
func durationSchema(t reflect.Type) *generator.Schema {
	if t != reflect.TypeFor[state.Duration]() {
		return nil
	}
	return &generator.Schema{Type: "string", Pattern: durationPattern}
}

// generate builds the schema of the config file from the types above.
var generate = sync.OnceValue(func() []byte {
	return schemaOf(&Config{}, "berth configuration", func(s *generator.Schema) {
		tunnels, _ := s.Properties.Get("tunnels")
		describeTunnel(tunnels.Items)
		limits, _ := s.Properties.Get("limits")
		describeLimits(limits)
	})
})

// schemaOf is the JSON Schema of a file that holds a value of the type of top.
// complete adds what the types do not say.
func schemaOf(top any, title string, complete func(*generator.Schema)) []byte {
	r := generator.Reflector{
		Anonymous:                  true,
		DoNotReference:             true,
		RequiredFromJSONSchemaTags: true,
		Mapper:                     durationSchema,
		LookupComment: func(t reflect.Type, field string) string {
			return descriptions[strings.TrimSuffix(t.Name()+"."+field, ".")]
		},
	}
	s := r.Reflect(top)
	complete(s)
	s.Title = title
	s.Description = descriptions[reflect.TypeOf(top).Elem().Name()]
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		panic(fmt.Sprintf("[unexpected] schema of %s: %v", title, err))
	}
	return b.Bytes()
}

// Schema is the JSON Schema (draft 2020-12) of the config file, for editors
// and for people.
func Schema() []byte { return bytes.Clone(generate()) }

// keySpec is what the schema says of one place: all the words of JSON Schema that
// schemaOf uses, of which TestKeySpecIsWhole makes sure. Nothing but the keys
// in Properties is allowed in a mapping.
type keySpec struct {
	Type       string             `json:"type"`
	Properties map[string]keySpec `json:"properties"`
	Required   []string           `json:"required"`
	Items      *keySpec           `json:"items"`
	MinItems   int                `json:"minItems"`
	Enum       []any              `json:"enum"`
	Pattern    string             `json:"pattern"`
	MinLength  int                `json:"minLength"`
	MaxLength  *int               `json:"maxLength"`
	Minimum    *float64           `json:"minimum"`
	Maximum    *float64           `json:"maximum"`

	want want // for the words of mistakes
}

var keySpecs = sync.OnceValue(func() keySpec { return specOf(generate(), wants) })

// specOf reads a schema, and gives each place of it its words.
func specOf(schema []byte, wants map[string]want) keySpec {
	var root keySpec
	if err := json.Unmarshal(schema, &root); err != nil {
		panic(fmt.Sprintf("[unexpected] schema: %v", err))
	}
	return root.worded("", wants)
}

func (k keySpec) worded(path string, wants map[string]want) keySpec {
	k.want = wants[path]
	if k.Items != nil {
		k.Items = new(k.Items.worded(path+"[]", wants))
	}
	for name, sub := range k.Properties {
		k.Properties[name] = sub.worded(join(path, name), wants)
	}
	return k
}
