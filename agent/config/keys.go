package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	generator "github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"

	"berth/agent/state"
)

// A Key is one key of a tunnel in the config file: all there is to know of it
// but for what the agent does with it. From the rows of TunnelKeys follow the
// schema, the words for mistakes, what counts as a change and how a history
// words it, how a tunnel is written into a file, and the flags of
// "berth tunnel add".
type Key struct {
	Name  string       // as in the file and in the JSON of a state.TunnelSpec
	Kinds []state.Kind // whose tunnels may have it; none means all
	Flag  string       // the flag's name; empty where the key has none
	usage string       // the flag's, see Usage; without a flag, why there is none

	doc   string           // its description in the schema
	rules generator.Schema // what the schema asks for beyond the type
	need  bool             // a tunnel without it is a mistake
	want  want             // for the words of mistakes
	entry want             // of the entries of a list
	not   string           // why tunnels of other kinds have no such key, with %s for the kind
	// refuse words what the schema refuses, where want does not suffice, and
	// check finds what the schema cannot.
	refuse func(v *value) string
	check  func(v *value, path string, others *seen, ms *mistakes)

	field int // of state.TunnelSpec
}

// seen are the values of the tunnels so far that no two may share.
type seen struct {
	names map[string]*value
	ports map[int64]*value
}

// TunnelKeys are the keys of a tunnel, in the order in which they are written.
var TunnelKeys = bind([]Key{
	{
		Name: "name", usage: "it is the command's argument", need: true,
		doc: "The tunnel's name in every command, menu and log line: up to 64 letters and digits of any script, " +
			"dots, dashes and underscores, starting with a letter or a digit. No two tunnels share one, nor have names that " +
			"differ in case or look the same.",
		rules: generator.Schema{
			Pattern: `^[\p{L}\p{N}][\p{L}\p{N}\p{M}._-]*$`, MaxLength: new(uint64(maxNameLength)), Examples: []any{"prod-pg"},
		},
		want:   want{"a name", "use letters, digits, dots, dashes and underscores"},
		refuse: func(v *value) string { return nameRefusal(v.scalar) }, check: checkName,
	},
	{
		Name: "kind", usage: "each kind has a command of its own", need: true,
		doc: "What the tunnel leads to: " + orKinds(func(info state.KindInfo) string {
			return "a " + info.Title + " (" + string(info.Kind) + ")"
		}) + ".",
		rules: generator.Schema{Enum: kindNames()},
		want:  want{"a kind of tunnel", "use " + orKinds(func(info state.KindInfo) string { return string(info.Kind) })},
	},
	{
		Name: "cluster", Flag: "cluster", usage: "the Teleport cluster it is in (default: the current profile's)", need: true,
		doc: "The Teleport cluster, root or leaf, to which the resource belongs.",
		rules: generator.Schema{
			MinLength: new(uint64(1)), MaxLength: new(uint64(maxTeleportName)), Examples: []any{"example.com"},
		},
		want: want{"a cluster's name", "write it as tsh clusters shows it"}, check: checkEnds,
	},
	{
		Name: "resource", Flag: "resource", usage: "the {title}'s name in Teleport (required)", need: true,
		doc: "The name of the database or Kubernetes cluster, as listed by berth resources or tsh db ls.",
		rules: generator.Schema{
			MinLength: new(uint64(1)), MaxLength: new(uint64(maxTeleportName)), Examples: []any{"pg-prod"},
		},
		want: want{"a resource's name", "write it as berth resources shows it"}, check: checkEnds,
	},
	{
		Name: "db_user", Kinds: []state.Kind{state.KindDB},
		Flag: "db-user", usage: "the database user (default: the client's choice)",
		doc: "The database user to connect as, for kind db only. Empty leaves it to the client, where the " +
			"database's protocol lets it say.",
		rules: generator.Schema{Examples: []any{"alice"}},
		want:  want{"a database user", "write a name"},
	},
	{
		Name: "db_name", Kinds: []state.Kind{state.KindDB},
		Flag: "db-name", usage: "the database in the server (default: the client's choice)",
		doc: "The database to connect to inside the server, for kind db only. Empty leaves it to the client, " +
			"where the database's protocol lets it say. Redis has numbers, as 0, and no names.",
		rules: generator.Schema{Examples: []any{"app"}},
		want:  want{"a database's name", "write a name"},
	},
	{
		Name: "as", Kinds: []state.Kind{state.KindKube},
		Flag: "as", usage: "the user to be in Kubernetes (default: the client's choice)",
		doc: "Who to be in Kubernetes, for kind kube only: a user of those that your roles allow. It is for " +
			"requests that do not say themselves, as kubectl --as does.",
		rules: generator.Schema{Examples: []any{"alice"}},
		want:  want{"a Kubernetes user", "write a name"},
	},
	{
		Name: "as_groups", Kinds: []state.Kind{state.KindKube},
		Flag: "as-group", usage: "a group to be in, in Kubernetes; may be repeated",
		doc: "The groups to be in, in Kubernetes, for kind kube only. They are for requests that do not say " +
			"themselves, as kubectl --as-group does.",
		rules: generator.Schema{
			Items: &generator.Schema{Type: "string", MinLength: new(uint64(1)), Examples: []any{"dev"}},
		},
		want: want{"a list of Kubernetes groups", "write [dev, ops]"}, entry: want{"a Kubernetes group", "write a name"},
	},
	{
		Name: "port", Flag: "port", usage: "the local port (default: {port})",
		doc: "The local port, from 1024 to 65535, on 127.0.0.1 and ::1. It is bound from the agent's start to its " +
			"end and never changed by berth. Without one, it is derived from kind, cluster and resource, so that the " +
			"same file gives the same port on every machine.",
		rules: generator.Schema{
			Minimum: json.Number(strconv.Itoa(minPort)), Maximum: json.Number(strconv.Itoa(maxPort)), Examples: []any{15432},
		},
		want: want{"a port", usePort}, refuse: portRefusal,
		check: func(v *value, path string, others *seen, ms *mistakes) { checkPort(v, path, others.ports, ms) },
	},
	{
		Name: "hold", Flag: "hold", usage: "how long a client is held while a login is needed",
		doc: "How long a client that connects while a login is needed waits for it, as in 90s: from 0s, which " +
			"refuses at once, to 10m.",
		rules: generator.Schema{Default: "60s"},
		want:  want{"a duration", "write a number and a unit, as in 90s"},
		check: func(v *value, path string, _ *seen, ms *mistakes) { checkDuration(v, path, 0, MaxHold, ms) },
	},
	{
		Name: "engine", Flag: "engine", usage: "who carries the bytes: auto, native or tsh",
		doc: "Who carries the bytes: native is berth itself, tsh is a tsh that berth runs, auto is native " +
			"wherever it can.",
		rules: generator.Schema{
			Enum:    []any{string(state.EngineAuto), string(state.EngineNative), string(state.EngineTSH)},
			Default: string(state.EngineAuto),
		},
		want: want{"an engine", "use auto, native or tsh"},
	},
	{
		Name: "guard", Kinds: []state.Kind{state.KindDB}, not: ": clients of a tunnel of kind %s show a certificate",
		Flag: "guard", usage: "off serves other users' programs too, and containers",
		doc: "on serves only programs of the user who runs berth; off serves every user of this machine, and every " +
			"container that reaches its loopback. For kind db only: Kubernetes clients show a certificate.",
		rules: generator.Schema{
			Enum: []any{string(state.GuardOn), string(state.GuardOff)}, Default: string(state.GuardOn),
		},
		want: want{"a guard", "use on or off"},
	},
	{
		Name: "user", Flag: "user", usage: "the Teleport user that it is for (default: whoever is logged in)",
		doc: "The Teleport user that the tunnel is for. While someone else is logged in it waits instead of running as " +
			"them. Empty means whoever is logged in.",
		rules: generator.Schema{Examples: []any{"alice"}},
		want:  want{"a Teleport user", "write a name"},
	},
	{
		Name: "recycle", Kinds: []state.Kind{state.KindDB}, not: ": requests to a %s do not outlive their certificate",
		usage: "it is rarely wanted",
		doc: "Where the cluster cuts each connection at the end of the certificate it was opened with " +
			"(disconnect_expired_cert), a connection to Postgres, CockroachDB, MySQL, MariaDB or Redis that is idle outside " +
			"a transaction is ended politely in the last minutes, so that a pool opens another instead of losing a query. " +
			"false leaves it to the cluster. For kind db only.",
		rules: generator.Schema{Default: true},
		want:  want{"true or false", useBool},
	},
	{
		Name: "warm", Kinds: []state.Kind{state.KindDB}, not: ": requests to a %s share a connection",
		Flag: "warm", usage: "off keeps no connection to the proxy ready for the next client",
		doc: "on keeps a connection or two to the proxy ready while the tunnel is in use, so that a client that comes next " +
			"does not wait for TCP and TLS; off keeps none. None is kept on battery, on a metered network, or where a " +
			"connection is a session from its beginning (all protocols but Postgres, CockroachDB, MySQL and MariaDB). " +
			"For kind db only.",
		rules: generator.Schema{
			Enum: []any{string(state.WarmOn), string(state.WarmOff)}, Default: string(state.WarmOn),
		},
		want: want{"a word for warm", "use on or off"},
	},
})

// maxTeleportName bounds the names of clusters and resources.
const maxTeleportName = 256

func kindNames() []any {
	var names []any
	for _, info := range state.Kinds {
		names = append(names, string(info.Kind))
	}
	return names
}

// orKinds joins a word for each kind by "or".
func orKinds(word func(state.KindInfo) string) string {
	words := make([]string, len(state.Kinds))
	for i, info := range state.Kinds {
		words[i] = word(info)
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// bind finds the field of each key, and panics for a key without a field.
func bind(keys []Key) []Key {
	spec := reflect.TypeFor[state.TunnelSpec]()
	for i := range keys {
		k := &keys[i]
		k.field = slices.IndexFunc(slices.Collect(spec.Fields()), func(f reflect.StructField) bool {
			return f.Tag.Get("json") == k.Name
		})
		if k.field < 0 {
			panic(fmt.Sprintf("config: a tunnel has no key %q", k.Name))
		}
	}
	return keys
}

// For reports whether tunnels of a kind may have the key.
func (k Key) For(kind state.Kind) bool { return len(k.Kinds) == 0 || slices.Contains(k.Kinds, kind) }

// Usage describes the key's flag, for a tunnel of a kind.
func (k Key) Usage(kind state.Kind) string {
	info, port := kind.Info(), "derived from cluster and resource"
	if info.SharesPort {
		port = "the one that all share"
	}
	return strings.NewReplacer("{title}", info.Title, "{port}", port).Replace(k.usage)
}

// Default is the value of the key when it is left out; empty where that depends.
func (k Key) Default() string {
	if k.rules.Default == nil {
		return ""
	}
	return fmt.Sprint(k.rules.Default)
}

// Choices are the only values that the key may have; none means any.
func (k Key) Choices() []string {
	var words []string
	for _, e := range k.rules.Enum {
		words = append(words, fmt.Sprint(e))
	}
	return words
}

// Set gives the key a value, as a flag does: one of a list is added to it, and an
// empty text, which no list has, adds none.
func (k Key) Set(t *state.TunnelSpec, text string) error {
	switch f := reflect.ValueOf(t).Elem().Field(k.field).Addr().Interface().(type) {
	case *[]string:
		if text != "" {
			*f = append(slices.Clip(*f), text)
		}
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*f = n
	case **state.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration: %s", text, k.want.use)
		}
		*f = new(state.Duration(d))
	case **bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*f = new(b)
	default:
		reflect.ValueOf(f).Elem().SetString(text)
	}
	return nil
}

// Clear leaves the key out.
func (k Key) Clear(t *state.TunnelSpec) { reflect.ValueOf(t).Elem().Field(k.field).SetZero() }

// Type says what Set takes: string, stringArray, int, duration or bool.
func (k Key) Type() string {
	switch reflect.ValueOf(state.TunnelSpec{}).Field(k.field).Interface().(type) {
	case []string:
		return "stringArray"
	case int:
		return "int"
	case *state.Duration:
		return "duration"
	case *bool:
		return "bool"
	}
	return "string"
}

// List returns the values of a key that has a list of them; Set adds one of these.
func (k Key) List(t state.TunnelSpec) []string {
	list, _ := reflect.TypeAssert[[]string](reflect.ValueOf(t).Field(k.field))
	return list
}

// Text is the key's value, empty when it is left out.
func (k Key) Text(t state.TunnelSpec) string {
	switch v := reflect.ValueOf(t).Field(k.field).Interface().(type) {
	case []string:
		return tokens(v)
	case int:
		if v == 0 {
			return ""
		}
		return strconv.Itoa(v)
	case *state.Duration:
		if v == nil {
			return ""
		}
		return v.String()
	case *bool:
		if v == nil {
			return ""
		}
		return strconv.FormatBool(*v)
	default:
		return reflect.ValueOf(v).String()
	}
}

// token is the key's value as YAML, empty when it is left out.
func (k Key) token(t state.TunnelSpec) string {
	text := k.Text(t)
	if k.Type() == "string" {
		text = token(text)
	}
	if k.need {
		return cmp.Or(text, `""`)
	}
	return text
}

// meant is t with the defaults filled in.
func meant(t state.TunnelSpec) state.TunnelSpec {
	for _, k := range TunnelKeys {
		if k.Default() != "" && k.Text(t) == "" {
			if err := k.Set(&t, k.Default()); err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", k.Name, err))
			}
		}
	}
	return t
}

// sameTunnel reports whether two tunnels mean the same: a default may be
// written or left out.
func sameTunnel(t, u state.TunnelSpec) bool { return len(ChangedKeys(t, u)) == 0 }

// ChangedKeys says in which keys two versions of a tunnel differ, in words such
// as "port from 5432 to 5433".
func ChangedKeys(from, to state.TunnelSpec) []string {
	from, to = meant(from), meant(to)
	var changes []string
	for _, k := range TunnelKeys {
		if was, is := k.Text(from), k.Text(to); was != is {
			changes = append(changes, fmt.Sprintf("%s from %s to %s", k.Name, cmp.Or(was, "nothing"), cmp.Or(is, "nothing")))
		}
	}
	return changes
}

// describeTunnel completes the schema of a tunnel, which has the types so far.
func describeTunnel(tunnel *generator.Schema) {
	for _, k := range TunnelKeys {
		p, ok := tunnel.Properties.Get(k.Name)
		if !ok {
			panic(fmt.Sprintf("[unexpected] config schema: a tunnel has no %s", k.Name))
		}
		full := k.rules
		full.Type, full.Description = p.Type, k.doc
		full.Pattern = cmp.Or(full.Pattern, p.Pattern)
		*p = full
		if k.need {
			tunnel.Required = append(tunnel.Required, k.Name)
		}
	}
}

// tunnelKeyAt is the key of a tunnel that a path leads to, without the number
// of the tunnel; nil when it leads elsewhere.
func tunnelKeyAt(path string) *Key {
	name, ok := strings.CutPrefix(path, "tunnels[].")
	if !ok {
		return nil
	}
	i := slices.IndexFunc(TunnelKeys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return &TunnelKeys[i]
}

// flowItem is a tunnel on one line.
func flowItem(t state.TunnelSpec) string { return "{" + strings.Join(pairsOf(t), ", ") + "}" }

// blockItem is a tunnel with a line for each key, each but the first after
// indent.
func blockItem(t state.TunnelSpec, indent, eol string) string {
	return strings.Join(pairsOf(t), eol+indent)
}

// pairsOf lists the keys of t and their values, but for those left out.
func pairsOf(t state.TunnelSpec) []string {
	var pairs []string
	for _, k := range TunnelKeys {
		if token := k.token(t); token != "" {
			pairs = append(pairs, k.Name+": "+token)
		}
	}
	return pairs
}

// bare is text that needs no quotes anywhere in YAML, if it is not read as
// something else than text.
var bare = regexp.MustCompile(`^[A-Za-z0-9_./~][A-Za-z0-9_./@~+-]*$`)

// token is s as a YAML value; empty for an empty text.
func token(s string) string {
	if s == "" {
		return ""
	}
	if bare.MatchString(s) {
		n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
		if n.ShortTag() == "!!str" {
			return s
		}
	}
	raw, err := json.Marshal(s) // a JSON string is a YAML one
	if err != nil {
		return strconv.Quote(s)
	}
	return string(raw)
}

// tokens is a list as a YAML value; empty for an empty list.
func tokens(list []string) string {
	if len(list) == 0 {
		return ""
	}
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = cmp.Or(token(s), `""`)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
