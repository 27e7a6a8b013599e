package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/internal/testneeds"
)

// newTunnel is what the cases add; newFlow and newBlock is how it is written.
var newTunnel = state.TunnelSpec{Name: "new", Kind: state.KindDB, Cluster: "c", Resource: "r", DBUser: "it's \"me\"", Port: 20000}

const (
	newFlow = `{name: new, kind: db, cluster: c, resource: r, db_user: "it's \"me\"", port: 20000}`
	a       = `{name: a, kind: db, cluster: c, resource: ra, port: 15001}`
	b       = `{name: b, kind: db, cluster: c, resource: rb, port: 15002}`
	c       = `{name: c, kind: kube, cluster: c, resource: rc}`
)

func add(d *Document) error { return d.AddTunnel(newTunnel) }

func remove(name string) func(*Document) error {
	return func(d *Document) error { return d.RemoveTunnel(name) }
}

func kubePort(port int) func(*Document) error {
	return func(d *Document) error { return d.SetKubePort(port) }
}

// changed changes the tunnel a.
func changed(change func(*state.TunnelSpec)) func(*Document) error {
	return func(d *Document) error {
		t, _ := d.Config().Tunnel("a")
		change(&t)
		return d.ChangeTunnel("a", t)
	}
}

var editCases = map[string]struct {
	in  string
	do  func(*Document) error
	out string
}{
	"add_to_no_file": {
		"", add,
		header + "\ntunnels:\n  - " + newFlow + "\n",
	},
	"add_to_blank_file": {
		"\n  \n", add,
		header + "\ntunnels:\n  - " + newFlow + "\n",
	},
	"add_to_comments_only": {
		"# mine\n", add,
		"# mine\ntunnels:\n  - " + newFlow + "\n",
	},
	"add_to_start_marker_only": {
		"---\n", add,
		"---\ntunnels:\n  - " + newFlow + "\n",
	},
	"add_without_tunnels_key": {
		"version: 1 # the first\nhomes: [~/.tsh]\n\n# the end\n", add,
		"version: 1 # the first\nhomes: [~/.tsh]\n\n# the end\ntunnels:\n  - " + newFlow + "\n",
	},
	"add_without_tunnels_key_or_last_newline": {
		"version: 1", add,
		"version: 1\ntunnels:\n  - " + newFlow + "\n",
	},
	"add_to_indented_file": {
		"  version: 1\n", add,
		"  version: 1\n  tunnels:\n    - " + newFlow + "\n",
	},
	"add_to_file_in_braces": {
		"{version: 1}\n", add,
		"{version: 1, tunnels: [" + newFlow + "]}\n",
	},
	"add_to_empty_braces": {
		"{} # nothing\n", add,
		"{tunnels: [" + newFlow + "]} # nothing\n",
	},
	"add_to_null_in_braces": {
		"{tunnels: , version: 1}\n", add,
		"{tunnels: [" + newFlow + "] , version: 1}\n",
	},
	"add_to_empty_list_in_braces": {
		"{tunnels: [], version: 1}\n", add,
		"{tunnels: [" + newFlow + "], version: 1}\n",
	},
	"add_to_null": {
		"version: 1\ntunnels:\nlog: {level: debug}\n", add,
		"version: 1\ntunnels:\n  - " + newFlow + "\nlog: {level: debug}\n",
	},
	"add_to_null_with_comments": {
		"tunnels:   # none yet\n  # - {name: example}\n\nversion: 1\n", add,
		"tunnels:   # none yet\n  - " + newFlow + "\n  # - {name: example}\n\nversion: 1\n",
	},
	"add_to_null_at_end_of_file": {
		"tunnels:", add,
		"tunnels:\n  - " + newFlow + "\n",
	},
	"add_to_written_null": {
		"tunnels: null # none\nversion: 1\n", add,
		"tunnels: # none\n  - " + newFlow + "\nversion: 1\n",
	},
	"add_to_tilde": {
		"tunnels: ~\n", add,
		"tunnels:\n  - " + newFlow + "\n",
	},
	"add_to_empty_list": {
		"tunnels: [] # none\nversion: 1\n", add,
		"tunnels: # none\n  - " + newFlow + "\nversion: 1\n",
	},
	"add_to_empty_list_with_comment_inside": {
		"tunnels: [ # none\n]\n", add,
		"tunnels: [" + newFlow + " # none\n]\n",
	},
	"add_to_list_on_one_line": {
		"tunnels: [" + a + "] # two\nversion: 1\n", add,
		"tunnels: [" + a + ", " + newFlow + "] # two\nversion: 1\n",
	},
	"add_to_list_on_one_line_with_comma": {
		"tunnels: [" + a + ", ]\n", add,
		"tunnels: [" + a + ", " + newFlow + ", ]\n",
	},
	"add_to_list_in_brackets": {
		"tunnels: [\n  " + a + ", # first\n  " + b + " # second\n  # third?\n]\n", add,
		"tunnels: [\n  " + a + ", # first\n  " + b + ", # second\n  " + newFlow + "\n  # third?\n]\n",
	},
	"add_to_list_in_brackets_with_comma": {
		"tunnels: [\n  " + a + ",\n  " + b + ", # second\n]\n", add,
		"tunnels: [\n  " + a + ",\n  " + b + ", # second\n  " + newFlow + ",\n]\n",
	},
	"add_to_list_in_brackets_closed_on_last_line": {
		"tunnels: [\n  " + a + ",\n  " + b + "]\n", add,
		"tunnels: [\n  " + a + ",\n  " + b + ",\n  " + newFlow + "]\n",
	},
	"add_to_flow_items": {
		"tunnels:\n  - " + a + " # A\n  - " + b + " # B\n\n# the rest\nversion: 1\n", add,
		"tunnels:\n  - " + a + " # A\n  - " + b + " # B\n  - " + newFlow + "\n\n# the rest\nversion: 1\n",
	},
	"add_to_items_without_indent": {
		"tunnels:\n- " + a + "\nversion: 1\n", add,
		"tunnels:\n- " + a + "\n- " + newFlow + "\nversion: 1\n",
	},
	"add_without_last_newline": {
		"tunnels:\n  - " + a, add,
		"tunnels:\n  - " + a + "\n  - " + newFlow + "\n",
	},
	"add_before_trailing_comments": {
		"tunnels:\n  - " + a + "\n  # - {name: off}\n", add,
		"tunnels:\n  - " + a + "\n  - " + newFlow + "\n  # - {name: off}\n",
	},
	"add_to_quoted_and_non_ascii": {
		"tunnels:\n  - {name: \"a\", kind: 'db', cluster: 'it''s', resource: \"\\u0041é # ]}\", db_name: 日本 } # é\n", add,
		"tunnels:\n  - {name: \"a\", kind: 'db', cluster: 'it''s', resource: \"\\u0041é # ]}\", db_name: 日本 } # é\n  - " + newFlow + "\n",
	},
	"add_to_block_items": {
		"tunnels:\n  - name: a\n    kind: db\n    cluster: c\n    resource: ra # A\n    # port: 15001\n# the end\n", add,
		"tunnels:\n  - name: a\n    kind: db\n    cluster: c\n    resource: ra # A\n    # port: 15001\n" +
			"  - name: new\n    kind: db\n    cluster: c\n    resource: r\n    db_user: \"it's \\\"me\\\"\"\n    port: 20000\n# the end\n",
	},
	"add_to_block_items_with_their_indent": {
		"tunnels:\n-   name: a\n    kind: db\n    cluster: c\n    resource: ra\n", add,
		"tunnels:\n-   name: a\n    kind: db\n    cluster: c\n    resource: ra\n" +
			"-   name: new\n    kind: db\n    cluster: c\n    resource: r\n    db_user: \"it's \\\"me\\\"\"\n    port: 20000\n",
	},
	"add_to_block_items_below_their_dash": {
		"tunnels:\n  -\n    name: a\n    kind: db\n    cluster: c\n    resource: ra\n", add,
		"tunnels:\n  -\n    name: a\n    kind: db\n    cluster: c\n    resource: ra\n" +
			"  - name: new\n    kind: db\n    cluster: c\n    resource: r\n    db_user: \"it's \\\"me\\\"\"\n    port: 20000\n",
	},
	"add_to_items_apart": {
		"tunnels:\n  - " + a + "\n\n  # B\n  - " + b + "\n", add,
		"tunnels:\n  - " + a + "\n\n  # B\n  - " + b + "\n\n  - " + newFlow + "\n",
	},
	"add_to_items_with_anchor_and_alias": {
		"tunnels:\n  - &a {name: a, kind: db, cluster: c, resource: ra}\n  - {<<: *a, name: b, port: 15002}\n", add,
		"tunnels:\n  - &a {name: a, kind: db, cluster: c, resource: ra}\n  - {<<: *a, name: b, port: 15002}\n  - " + newFlow + "\n",
	},
	"add_to_list_with_anchor": {
		"tunnels: &all\n  - " + a + "\n", add,
		"tunnels: &all\n  - " + a + "\n  - " + newFlow + "\n",
	},
	"add_with_quoted_key": {
		"\"tunnels\" :\n  - " + a + "\n", add,
		"\"tunnels\" :\n  - " + a + "\n  - " + newFlow + "\n",
	},
	"add_kube": {
		"tunnels:\n  - " + a + "\n",
		func(d *Document) error {
			return d.AddTunnel(state.TunnelSpec{Name: "c", Kind: state.KindKube, Cluster: "c", Resource: "rc"})
		},
		"tunnels:\n  - " + a + "\n  - " + c + "\n",
	},
	"add_what_needs_quotes": {
		"tunnels:\n  - " + a + "\n",
		func(d *Document) error {
			return d.AddTunnel(state.TunnelSpec{
				Name: "123", Kind: state.KindDB, Cluster: "true", Resource: "1e3", DBUser: "arn:aws:iam::1:role/x", DBName: "~",
				Hold: new(state.Duration), Engine: state.EngineTSH,
			})
		},
		"tunnels:\n  - " + a + "\n  - {name: \"123\", kind: db, cluster: \"true\", resource: \"1e3\", " +
			"db_user: \"arn:aws:iam::1:role/x\", db_name: \"~\", hold: 0s, engine: tsh}\n",
	},
	"add_two": {
		"tunnels: []\n",
		func(d *Document) error {
			if err := d.AddTunnel(newTunnel); err != nil {
				return err
			}
			return d.AddTunnel(state.TunnelSpec{Name: "c", Kind: state.KindKube, Cluster: "c", Resource: "rc"})
		},
		"tunnels:\n  - " + newFlow + "\n  - " + c + "\n",
	},

	"remove_first": {
		"tunnels:\n  # A\n  - " + a + " # a\n  # B\n  - " + b + "\n", remove("a"),
		"tunnels:\n  # A\n  # B\n  - " + b + "\n",
	},
	"remove_last": {
		"tunnels:\n  - " + a + "\n  - " + b + "\n# the end\n", remove("b"),
		"tunnels:\n  - " + a + "\n# the end\n",
	},
	"remove_last_without_newline": {
		"tunnels:\n  - " + a + "\n  - " + b, remove("b"),
		"tunnels:\n  - " + a + "\n",
	},
	"remove_only": {
		"version: 1\ntunnels: # mine\n  - " + a + "\nlog: {level: info}\n", remove("a"),
		"version: 1\ntunnels: # mine\nlog: {level: info}\n",
	},
	"remove_block_item": {
		"tunnels:\n  - name: a\n    kind: db # a database\n\n    cluster: c\n    resource: ra\n    # port: 1\n  # next\n  - " + b + "\n", remove("a"),
		"tunnels:\n  # next\n  - " + b + "\n",
	},
	"remove_block_item_below_its_dash": {
		"tunnels:\n  - " + b + "\n  -\n    # it\n    name: a\n    kind: db\n    cluster: c\n    resource: ra\n", remove("a"),
		"tunnels:\n  - " + b + "\n",
	},
	"remove_between_blank_lines": {
		"tunnels:\n  - " + a + "\n\n  - " + b + "\n\n  - " + c + "\n", remove("b"),
		"tunnels:\n  - " + a + "\n\n  - " + c + "\n",
	},
	"remove_only_from_one_line": {
		"tunnels: [" + a + "] # x\n", remove("a"),
		"tunnels: [] # x\n",
	},
	"remove_first_from_one_line": {
		"tunnels: [" + a + ", " + b + "]\n", remove("a"),
		"tunnels: [" + b + "]\n",
	},
	"remove_middle_from_one_line": {
		"tunnels: [" + a + ", " + b + ", " + c + "]\n", remove("b"),
		"tunnels: [" + a + ", " + c + "]\n",
	},
	"remove_last_from_one_line": {
		"tunnels: [" + a + ", " + b + " ]\n", remove("b"),
		"tunnels: [" + a + " ]\n",
	},
	"remove_first_in_brackets": {
		"tunnels: [\n  " + a + ", # A\n  " + b + ", # B\n]\n", remove("a"),
		"tunnels: [\n  " + b + ", # B\n]\n",
	},
	"remove_last_in_brackets": {
		"tunnels: [\n  " + a + ", # A\n  " + b + " # B\n]\n", remove("b"),
		"tunnels: [\n  " + a + ", # A\n]\n",
	},
	"remove_last_closed_on_its_line": {
		"tunnels: [\n  " + a + ", # A\n  " + b + "]\n", remove("b"),
		"tunnels: [\n  " + a + ", # A\n  ]\n",
	},
	"remove_from_file_in_braces": {
		"{version: 1, tunnels: [" + a + ", " + b + "]}\n", remove("b"),
		"{version: 1, tunnels: [" + a + "]}\n",
	},
	"rename_on_one_line": {
		"tunnels: [" + a + ", " + b + "] # two\n", changed(func(t *state.TunnelSpec) { t.Name = "z" }),
		"tunnels: [" + strings.Replace(a, "name: a", "name: z", 1) + ", " + b + "] # two\n",
	},
	"rename_followed_by_rules": {
		"access:\n  auto_assume:\n    - {roles: [a], tunnel: a} # mine\n    - {roles: [b], tunnel: b}\n    - roles: [c]\ntunnels: [" + a + ", " + b + "]\n",
		changed(func(t *state.TunnelSpec) { t.Name = "z" }),
		"access:\n  auto_assume:\n    - {roles: [a], tunnel: z} # mine\n    - {roles: [b], tunnel: b}\n    - roles: [c]\ntunnels: [" +
			strings.Replace(a, "name: a", "name: z", 1) + ", " + b + "]\n",
	},
	"change_keys_in_lines": {
		"tunnels:\n  # first\n  - name: a # A\n    kind: db\n    cluster: c\n    resource: ra # RA\n    port: 15001 # fixed\n    # the end of a\n  - " + b + "\n",
		changed(func(t *state.TunnelSpec) { t.Name, t.Port, t.DBUser, t.DBName = "z", 15009, "bob", "app db" }),
		"tunnels:\n  # first\n  - name: z # A\n    kind: db\n    cluster: c\n    resource: ra # RA\n    port: 15009 # fixed\n" +
			"    db_user: bob\n    db_name: \"app db\"\n    # the end of a\n  - " + b + "\n",
	},
	"change_keys_below_a_lone_dash": {
		"tunnels:\n  -\n    kind: db\n    name: a\n    cluster: c\n    resource: ra\n", changed(func(t *state.TunnelSpec) { t.Port = 15009 }),
		"tunnels:\n  -\n    kind: db\n    name: a\n    cluster: c\n    resource: ra\n    port: 15009\n",
	},
	"change_adds_to_braces": {
		"tunnels:\n  - " + a + " # A\n", changed(func(t *state.TunnelSpec) { t.Guard = state.GuardOff }),
		"tunnels:\n  - " + strings.Replace(a, "}", ", guard: off}", 1) + " # A\n",
	},
	"change_takes_out_of_braces": {
		"tunnels:\n  - {name: a, db_user: bob, kind: db, cluster: c, resource: ra, port: 15001}\n",
		changed(func(t *state.TunnelSpec) { t.DBUser, t.Port = "", 0 }),
		"tunnels:\n  - {name: a, kind: db, cluster: c, resource: ra}\n",
	},
	"change_takes_out_a_line": {
		"tunnels:\n  - name: a\n    db_user: bob # who?\n    kind: db\n    cluster: c\n    resource: ra\n",
		changed(func(t *state.TunnelSpec) { t.DBUser = "" }),
		"tunnels:\n  - name: a\n    kind: db\n    cluster: c\n    resource: ra\n",
	},
	"change_a_list": {
		"tunnels:\n  - {name: a, kind: kube, cluster: c, resource: ra, as_groups: [dev, ops]}\n",
		changed(func(t *state.TunnelSpec) { t.AsGroups = []string{"dev"} }),
		"tunnels:\n  - {name: a, kind: kube, cluster: c, resource: ra, as_groups: [dev]}\n",
	},
	"change_nothing": {"tunnels: [" + a + "]\n", changed(func(*state.TunnelSpec) {}), "tunnels: [" + a + "]\n"},
	"remove_alias_item": {
		"tunnels:\n  - {<<: &x {kind: db, cluster: c, resource: r}, name: a}\n  - {<<: *x, name: b}\n", remove("b"),
		"tunnels:\n  - {<<: &x {kind: db, cluster: c, resource: r}, name: a}\n",
	},

	"kube_port_new_key": {
		"version: 1\ntunnels:\n  - " + c + "\n# end\n", kubePort(15440),
		"version: 1\ntunnels:\n  - " + c + "\n# end\nkube: {port: 15440}\n",
	},
	"kube_port_no_last_newline": {
		"tunnels:\n  - " + c, kubePort(15440),
		"tunnels:\n  - " + c + "\nkube: {port: 15440}\n",
	},
	"kube_port_in_braces": {
		"{version: 1, tunnels: [" + c + "]}\n", kubePort(15440),
		"{version: 1, tunnels: [" + c + "], kube: {port: 15440}}\n",
	},
	"kube_port_null": {
		"kube: # later\nversion: 1\n", kubePort(15440),
		"kube: {port: 15440} # later\nversion: 1\n",
	},
	"kube_port_empty": {
		"kube: {} # later\n", kubePort(15440),
		"kube: {port: 15440} # later\n",
	},
	"kube_port_changed": {
		"kube:\n  # of old\n  port: 15441 # P\nversion: 1\n", kubePort(15440),
		"kube:\n  # of old\n  port: 15440 # P\nversion: 1\n",
	},
	"kube_port_with_the_tunnel": {
		"", func(d *Document) error {
			return errors.Join(d.AddTunnel(state.TunnelSpec{Name: "c", Kind: state.KindKube, Cluster: "c", Resource: "rc"}), d.SetKubePort(15440))
		},
		header + "\ntunnels:\n  - " + c + "\nkube: {port: 15440}\n",
	},
	"nothing": {
		"tunnels: [" + a + "]", func(*Document) error { return nil },
		"tunnels: [" + a + "]",
	},
}

// Each case is tried as it is, with the line ends of Windows, and with a byte
// order mark.
func TestEdit(t *testing.T) {
	t.Parallel()
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for name, tt := range editCases {
		t.Run(name, func(t *testing.T) {
			testEdit(t, tt.in, tt.do, tt.out)
		})
		t.Run(name+"_crlf", func(t *testing.T) {
			if strings.TrimSpace(tt.in) == "" || !strings.Contains(tt.in, "\n") {
				return // nothing shows how lines end
			}
			testEdit(t, crlf(tt.in), tt.do, crlf(tt.out))
		})
		t.Run(name+"_bom", func(t *testing.T) {
			testEdit(t, byteOrderMark+tt.in, tt.do, byteOrderMark+tt.out)
		})
	}
}

func testEdit(t *testing.T, in string, do func(*Document) error, want string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if in != "" {
		writeFile(t, path, in)
	}
	if err := Edit(path, do); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, readString(t, path)); diff != "" {
		t.Errorf("the file differs (-want +got):\n%s", diff)
	}
	wantAlone(t, path)
}

// What cannot be done right is refused, and the file stays as it was.
func TestEditRefused(t *testing.T) {
	refused := func(err error) bool { return errors.As(err, new(*RefusedError)) }
	is := func(want error) func(error) bool {
		return func(err error) bool { return errors.Is(err, want) }
	}
	tests := map[string]struct {
		in   string
		do   func(*Document) error
		is   func(error) bool
		says string
	}{
		"name_exists": {"tunnels: [" + strings.Replace(a, "name: a", "name: new", 1) + "]\n", add, is(ErrTunnelExists), `"new"`},
		"port_taken":  {"tunnels: [" + strings.Replace(a, "15001", "20000", 1) + "]\n", add, is(ErrPortTaken), `20000 is that of "a"`},
		"proxys_port": {
			"profiles: [{proxy: 'localhost:20000'}]\n", add,
			func(err error) bool { return errors.As(err, new(*InvalidTunnelError)) }, "20000 is the one of the proxy localhost:20000",
		},
		"no_such": {"tunnels: [" + a + "]\n", remove("b"), is(errNoTunnel), `"b"`},
		"invalid_tunnel": {
			"version: 1\n", func(d *Document) error { return d.AddTunnel(state.TunnelSpec{Name: "a b", Kind: "x", Port: 80}) },
			func(err error) bool { return errors.As(err, new(*InvalidTunnelError)) }, "privileged",
		},
		"invalid_file": {
			"versoin: 1\n", add, func(err error) bool { return errors.As(err, new(*Error)) }, "did you mean version",
		},
		"syntax":                  {"tunnels: [\n", add, func(err error) bool { return errors.As(err, new(*Error)) }, "bracket"},
		"list_is_alias":           {"homes: &none []\ntunnels: *none\n", add, refused, newFlow},
		"document_ends":           {"version: 1\n...\n", add, refused, newFlow},
		"text_over_lines":         {"tunnels:\n  - name: a\n    kind: db\n    cluster: c\n    resource: very\n      long\n", add, refused, "yourself"},
		"block_text":              {"tunnels:\n  - name: a\n    kind: db\n    cluster: c\n    resource: |-\n      r\n", remove("a"), refused, "yourself"},
		"anchor_is_used_later":    {"tunnels:\n  - &a {name: a, kind: db, cluster: c, resource: r}\n  - {<<: *a, name: b}\n", remove("a"), refused, "yourself"},
		"name_in_another_case":    {"tunnels: [" + strings.Replace(a, "name: a", "name: NEW", 1) + "]\n", add, is(ErrTunnelExists), `looks the same: "NEW"`},
		"change_no_such":          {"tunnels: [" + b + "]\n", func(d *Document) error { return d.ChangeTunnel("a", newTunnel) }, is(errNoTunnel), `"a"`},
		"change_to_a_name_there":  {"tunnels: [" + a + ", " + b + "]\n", changed(func(t *state.TunnelSpec) { t.Name = "b" }), is(ErrTunnelExists), `"b"`},
		"change_to_a_port_there":  {"tunnels: [" + a + ", " + b + "]\n", changed(func(t *state.TunnelSpec) { t.Port = 15002 }), is(ErrPortTaken), `"b"`},
		"change_of_neighbours":    {"tunnels:\n  - {name: a, kind: db, cluster: c, resource: r, db_user: x, db_name: y}\n", changed(func(t *state.TunnelSpec) { t.DBUser, t.DBName = "", "" }), refused, "yourself"},
		"change_of_an_anchor":     {"tunnels:\n  - &a {name: a, kind: db, cluster: c, resource: r}\n  - {<<: *a, name: b}\n", changed(func(t *state.TunnelSpec) { t.Resource = "s" }), refused, "yourself"},
		"kube_port_after_the_end": {"version: 1\n...\n", kubePort(15440), refused, "kube: {port: 15440}"},
		"kube_port_privileged":    {"version: 1\n", kubePort(80), refused, "kube: {port: 80}"},
		"kube_port_of_a_tunnel":   {"tunnels: [" + a + "]\n", kubePort(15001), refused, "kube: {port: 15001}"},
		"own_error":               {"version: 1\n", func(*Document) error { return context.Canceled }, is(context.Canceled), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			writeFile(t, path, tt.in)
			err := Edit(path, tt.do)
			if err == nil || !tt.is(err) {
				t.Fatalf("error %v (%T)", err, err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
			if got := readString(t, path); got != tt.in {
				t.Errorf("the file was changed to %q", got)
			}
			wantAlone(t, path)
		})
	}
}

func TestEditMakesFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "berth", "config.yaml")
	if err := AddTunnel(path, newTunnel); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]state.TunnelSpec{newTunnel}, cfg.Tunnels); diff != "" {
		t.Errorf("tunnels differ (-want +got):\n%s", diff)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s is %o, want %o", filepath.Base(p), got, want)
		}
	}
	if err := RemoveTunnel(path, "new"); err != nil {
		t.Fatal(err)
	}
	if got, want := readString(t, path), header+"\ntunnels:\n"; got != want {
		t.Errorf("after the removal: %q, want %q", got, want)
	}
}

func TestInit(t *testing.T) {
	path, none := filepath.Join(t.TempDir(), "config.yaml"), filepath.Join(t.TempDir(), "last-good.yaml")
	if err := Init(path, none); err != nil {
		t.Fatal(err)
	}
	if got := readString(t, path); got != header+starter {
		t.Errorf("a new file says %q", got)
	}
	if err := AddTunnel(path, newTunnel); err != nil {
		t.Fatal(err)
	}
	want := header + starter + "tunnels:\n  - " + newFlow + "\n"
	for _, text := range []string{want, ""} { // what is there stays, even when it is nothing
		writeFile(t, path, text)
		if err := Init(path, none); err != nil {
			t.Fatal(err)
		}
		if got := readString(t, path); got != text {
			t.Errorf("a file that was there says %q, want %q", got, text)
		}
	}
}

// TestEditKept: what is left of a lost config is not replaced by what begins a new one.
func TestEditKept(t *testing.T) {
	for name, edit := range map[string]func(path, lastGood string) error{
		"init": Init,
		"trust": func(path, lastGood string) error {
			return TrustProxy(path, lastGood, "p.example.com", "/etc/ca.pem", false)
		},
		"tsh": func(path, lastGood string) error { return RememberTSH(path, lastGood, "/opt/tsh") },
	} {
		for _, gone := range []bool{true, false} {
			dir := t.TempDir()
			path, lastGood := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "last-good.yaml")
			writeFile(t, lastGood, "version: 1\n")
			if !gone {
				writeFile(t, path, "\n")
			}
			lost, ok := errors.AsType[*LostError](edit(path, lastGood))
			if !ok || lost.Gone != gone {
				t.Errorf("%s, gone %v: %v", name, gone, lost)
			}
			if text, err := os.ReadFile(path); gone != errors.Is(err, os.ErrNotExist) || len(text) > 1 {
				t.Errorf("%s, gone %v: the file says %q now, %v", name, gone, text, err)
			}
		}
	}
}

func TestEditThroughLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "dotfiles", "berth.yaml")
	link := filepath.Join(dir, "config.yaml")
	writeFile(t, target, "version: 1\n")
	testneeds.Here(t, "symbolic links", os.Symlink(filepath.Join("dotfiles", "berth.yaml"), link))
	if err := AddTunnel(link, newTunnel); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(link)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced by a file")
	}
	if got := readString(t, target); !strings.Contains(got, newFlow) {
		t.Errorf("the file behind the link says %q", got)
	}
}

// An editor knows nothing of the lock: what it writes during an edit stays.
func TestEditBesideEditor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, "version: 1\n")
	calls := 0
	err := Edit(path, func(d *Document) error {
		if calls++; calls == 1 {
			writeFile(t, path, "version: 1\n# by hand\n")
		}
		return d.AddTunnel(newTunnel)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := readString(t, path); !strings.Contains(got, "# by hand") || !strings.Contains(got, newFlow) {
		t.Errorf("after both: %q", got)
	}
	if calls != 2 {
		t.Errorf("changed %d times, want 2", calls)
	}
}

func TestEditWaitsForLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	unlock, err := lock(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := edit(path, 50*time.Millisecond, add); !errors.Is(err, errBusy) {
		t.Errorf("edit under another's lock: error %v", err)
	}
	unlock()
	if err := AddTunnel(path, newTunnel); err != nil {
		t.Error(err)
	}
}

// A lock on a file that its former holder removed keeps no one out.
func TestLockStands(t *testing.T) {
	testneeds.Unix(t, "a locked file cannot be removed here")
	l := flock.New(filepath.Join(t.TempDir(), "lock"))
	if ok, err := l.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer func() { _ = l.Unlock() }()
	if !stands(l) {
		t.Error("a fresh lock does not stand")
	}
	if err := os.Remove(l.Path()); err != nil {
		t.Fatal(err)
	}
	if stands(l) {
		t.Error("it stands, and its file is gone")
	}
	writeFile(t, l.Path(), "")
	if stands(l) {
		t.Error("it stands, and another file is in its place")
	}
}

// Writers at once, in this process and in others, lose nothing.
func TestEditConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, "# keep me\nversion: 1\n")
	var wg sync.WaitGroup
	const writers, each = 6, 8
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("t-%d-%d", w, i)
				if err := AddTunnel(path, state.TunnelSpec{Name: name, Kind: state.KindKube, Cluster: "c", Resource: "r"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tun := range cfg.Tunnels {
		names = append(names, tun.Name)
	}
	slices.Sort(names)
	if got := len(slices.Compact(names)); got != writers*each {
		t.Errorf("%d tunnels, want %d", got, writers*each)
	}
	if !strings.HasPrefix(readString(t, path), "# keep me\n") {
		t.Error("the comment is gone")
	}
	wantAlone(t, path)
}

// editorEnv makes the test binary a process that edits a file without end.
const editorEnv = "CONFIG_TEST_EDIT"

func editForEver(path string) {
	t := state.TunnelSpec{Name: fmt.Sprintf("p-%d", os.Getpid()), Kind: state.KindKube, Cluster: "c", Resource: strings.Repeat("r", 200)}
	for {
		err := errors.Join(AddTunnel(path, t), RemoveTunnel(path, t.Name))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// Two processes edit without end and are killed at any moment: the file is
// whole each time, nothing else in it is touched, and the next edit works.
func TestEditKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	const before = "# keep me\nversion: 1\ntunnels:\n  - " + a + "\n"
	writeFile(t, path, before)
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		var procs []*exec.Cmd
		for range 2 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), editorEnv+"="+path)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			procs = append(procs, cmd)
		}
		time.Sleep(time.Duration(60+9*round) * time.Millisecond)
		for _, cmd := range procs {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if state, _ := cmd.Process.Wait(); state.Exited() && runtime.GOOS != "windows" {
				t.Fatalf("an editor ended by itself: %v", state)
			}
		}
		cfg, err := Load(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if !strings.HasPrefix(readString(t, path), before) {
			t.Fatalf("round %d: the file is now %q", round, readString(t, path))
		}
		for _, tun := range cfg.Tunnels[1:] { // what the killed had added and not yet removed
			if err := RemoveTunnel(path, tun.Name); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	}
	if got := readString(t, path); got != before {
		t.Errorf("in the end the file is %q", got)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readString(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wantAlone fails when an edit left something beside the file.
func wantAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) && runtime.GOOS != "windows" { // where the lock's file stays
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// RemoveTunnel removes the tunnel called name from the config file at path.
func RemoveTunnel(path, name string) error {
	return Edit(path, func(d *Document) error { return d.RemoveTunnel(name) })
}
