package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// TestEveryKey changes each key of a tunnel and looks at all that is made of
// keys: a key that is new must not be missing anywhere.
func TestEveryKey(t *testing.T) {
	var names []string
	for f := range reflect.TypeFor[state.TunnelSpec]().Fields() {
		names = append(names, f.Tag.Get("json"))
	}
	var rows []string
	for _, k := range TunnelKeys {
		rows = append(rows, k.Name)
	}
	if !slices.Equal(names, rows) {
		t.Fatalf("a tunnel has the keys %v, the table %v", names, rows)
	}
	for _, k := range TunnelKeys {
		t.Run(k.Name, func(t *testing.T) {
			from := state.TunnelSpec{Name: "a", Kind: state.KindDB, Cluster: "c", Resource: "r"}
			if len(k.Kinds) > 0 {
				from.Kind = k.Kinds[0]
			}
			to := from
			if err := k.Set(&to, otherValue(k)); err != nil {
				t.Fatal(err)
			}
			keyIsRead(t, k, to)
			keyIsDescribed(t, k)
			keyIsAChange(t, k, from, to)
			keyIsOfItsKinds(t, k, to)
			if got := ipc.FromProto[state.TunnelSpec](ipc.ToProto[pb.TunnelSpec](to)); k.Text(got) != k.Text(to) {
				t.Errorf("%q arrives as %q", k.Text(to), k.Text(got))
			}
			if k.usage == "" {
				t.Error("it has neither a flag nor a reason why not")
			}
		})
	}
}

// otherValue is one that the tunnels of TestEveryKey do not have.
func otherValue(k Key) string {
	for _, choice := range k.Choices() {
		if choice != k.Default() && choice != string(state.KindDB) {
			return choice
		}
	}
	return map[string]string{"int": "15999", "bool": "false", "duration": "90s", "string": "other", "stringArray": "other"}[k.Type()]
}

// keyIsRead adds the tunnel to a file that has keys in lines and reads it.
func keyIsRead(t *testing.T, k Key, want state.TunnelSpec) {
	t.Helper()
	for layout, text := range map[string]string{
		"flow":  "version: 1\n",
		"block": "tunnels:\n  - name: z\n    kind: db\n    cluster: c\n    resource: z\n",
	} {
		path := filepath.Join(t.TempDir(), layout)
		writeFile(t, path, text)
		if err := AddTunnel(path, want); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(readString(t, path), k.Name+": "+k.token(want)) {
			t.Errorf("it is not in the file:\n%s", readString(t, path))
		}
		cfg, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := cfg.Tunnel(want.Name); k.Text(got) != k.Text(want) || len(ChangedKeys(got, want)) > 0 {
			t.Errorf("%+v was read, want %+v", got, want)
		}
	}
}

func keyIsDescribed(t *testing.T, k Key) {
	t.Helper()
	var schema struct {
		Properties struct {
			Tunnels struct {
				Items struct {
					Required   []string                  `json:"required"`
					Properties map[string]map[string]any `json:"properties"`
				} `json:"items"`
			} `json:"tunnels"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	tunnel := schema.Properties.Tunnels.Items
	if p := tunnel.Properties[k.Name]; p["description"] == "" || p["type"] == nil {
		t.Errorf("the schema says of it: %v", p)
	}
	if slices.Contains(tunnel.Required, k.Name) != k.need {
		t.Errorf("required are %v", tunnel.Required)
	}
}

func keyIsAChange(t *testing.T, k Key, from, to state.TunnelSpec) {
	t.Helper()
	diff := Diff(&Config{Tunnels: []state.TunnelSpec{from}}, &Config{Tunnels: []state.TunnelSpec{to}})
	if k.Name == "name" {
		if len(diff.Added) != 1 || len(diff.Removed) != 1 {
			t.Errorf("another name is %+v, want another tunnel", diff)
		}
	} else if len(diff.Changed) != 1 {
		t.Errorf("another value is no change: %+v", diff)
	}
	want := k.Name + " from " + cmp.Or(k.Text(meant(from)), "nothing") + " to " + k.Text(to)
	if got := ChangedKeys(from, to); !slices.Equal(got, []string{want}) {
		t.Errorf("it is worded %q, want %q", got, want)
	}
}

// keyIsOfItsKinds adds the key to a tunnel of a kind that has it not.
func keyIsOfItsKinds(t *testing.T, k Key, spec state.TunnelSpec) {
	t.Helper()
	for _, info := range state.Kinds {
		if k.For(info.Kind) {
			continue
		}
		spec.Kind = info.Kind
		invalid, ok := errors.AsType[*InvalidTunnelError](AddTunnel(filepath.Join(t.TempDir(), "c"), spec))
		if !ok || len(invalid.Mistakes) != 1 || invalid.Mistakes[0].Path != k.Name {
			t.Errorf("of kind %s: %v", info.Kind, invalid)
		}
	}
}

func TestChangedKeys(t *testing.T) {
	got := ChangedKeys(
		state.TunnelSpec{Port: 5432, DBUser: "alice", Engine: state.EngineAuto},
		state.TunnelSpec{Port: 5433, DBUser: "alice", DBName: "app", AsGroups: []string{"dev", "ops"}},
	)
	want := []string{
		"db_name from nothing to app", "as_groups from nothing to [dev, ops]", "port from 5432 to 5433",
	}
	if !slices.Equal(got, want) {
		t.Errorf("changed are %q, want %q", got, want)
	}
}

func TestSetRefuses(t *testing.T) {
	for _, k := range TunnelKeys {
		if k.Type() != "int" && k.Type() != "duration" {
			continue
		}
		if err := k.Set(new(state.TunnelSpec), "soon"); err == nil || !strings.Contains(err.Error(), `"soon"`) {
			t.Errorf("%s: soon is taken: %v", k.Name, err)
		}
	}
}
