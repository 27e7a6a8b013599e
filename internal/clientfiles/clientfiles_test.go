package clientfiles

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testneeds"
	"berth/proxies/db"
)

func endpoint(name string) db.Endpoint {
	return db.Endpoint{Host: "127.0.0.1", Port: 5544, DBUser: "alice", DBName: "app", TunnelName: name}
}

func protocol(t testing.TB, name string) db.Protocol {
	t.Helper()
	p, ok := db.Lookup(name)
	if !ok {
		t.Fatalf("no protocol %q", name)
	}
	return p
}

func client(t testing.TB, name string) Client {
	t.Helper()
	c, ok := Lookup(name)
	if !ok {
		t.Fatalf("no client %q", name)
	}
	return c
}

// TestIgnoredFile: an entry where MySQL's clients would not see it is refused.
func TestIgnoredFile(t *testing.T) {
	testneeds.Unix(t, "Windows has no such modes")
	path := filepath.Join(t.TempDir(), "my.cnf")
	if err := errors.Join(os.WriteFile(path, []byte("[client]\n"), 0o600), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	f := File{Client: client(t, "mycnf"), Path: path, Record: filepath.Join(t.TempDir(), "record")}
	var broken *BrokenError
	if _, err := f.Add(protocol(t, "mysql"), endpoint("my")); !errors.As(err, &broken) || !strings.Contains(err.Error(), "chmod o-w ") {
		t.Errorf("Add = %v, want the mode named", err)
	}
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Add(protocol(t, "mysql"), endpoint("my")); err != nil {
		t.Error(err)
	}
}

// Every client's entry goes into files as people have them, and comes out again
// without a trace.
func TestPutAndRemove(t *testing.T) {
	files := map[string]map[string]string{
		"dbeaver": {
			"missing":        "",
			"empty_object":   "{}",
			"no_connections": "{\n\t\"folders\": {}\n}",
			"others": "{\n\t\"folders\": {},\n\t\"connections\": {\n\t\t\"pg-1\": {\n\t\t\t\"name\": \"mine\"\n\t\t}\n\t},\n" +
				"\t\"connection-types\": {}\n}",
			"one_line": `{"connections":{"pg-1":{"name":"mine","configuration":{"password":"s3cret"}}}}`,
		},
		"vscode": {
			"missing": "",
			"comments": "// my settings\r\n{\r\n  // fonts\r\n  \"editor.fontSize\": 13, // large\r\n" +
				"  \"sqltools.connections\": [\r\n    {\r\n      \"name\": \"mine\", // by hand\r\n    }, // keep\r\n  ],\r\n}\r\n",
			"no_list":        "{\n    \"editor.fontSize\": 13\n}\n",
			"trailing_comma": "{\n    \"a\": [1, 2,],\n}\n",
			"empty_list":     "{\n    \"sqltools.connections\": []\n}\n",
			"only_a_comment": "{\n    // nothing yet\n}\n",
			"last_comment":   "{\n\t\"a\": 1\n\t// one\n\t/* two */\n}\n",
		},
		"pgservice": {
			"missing": "",
			"others":  "# mine\n[prod]\nhost=db.example.com\npassword=s3cret\n",
			"no_end":  "[prod]\nhost=db.example.com",
			"crlf":    "[prod]\r\nhost=db.example.com\r\n",
		},
		"mycnf": {
			"missing": "",
			"others":  "!includedir /etc/mysql/conf.d/\n[client]\nuser=root\nskip-ssl\n\n; end\n",
		},
	}
	for name, cases := range files {
		c := client(t, name)
		proto := protocol(t, c.Protocols[0])
		for label, before := range cases {
			t.Run(name+"/"+label, func(t *testing.T) {
				after, err := c.format.put([]byte(before), proto, endpoint("prod-db"), "")
				if err != nil {
					t.Fatal(err)
				}
				list, err := c.Entries(after)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]Entry{{Tunnel: "prod-db", Address: "127.0.0.1:5544"}}, list); diff != "" {
					t.Errorf("entries (-want +got):\n%s\n%s", diff, after)
				}
				for line := range strings.Lines(before) {
					// What closes a list or an object may get a comma or a line of its own.
					if text := strings.TrimRight(strings.TrimSpace(line), "}]"); !strings.Contains(string(after), text) {
						t.Errorf("the line %q is gone:\n%s", text, after)
					}
				}
				again, err := c.format.put(after, proto, endpoint("prod-db"), "")
				if err != nil || string(again) != string(after) {
					t.Errorf("the second time changes the file (%v):\n%s", err, again)
				}
				back, err := c.format.remove(after, "prod-db")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.format.remove(back, "prod-db"); !errors.Is(err, ErrNone) {
					t.Errorf("removed twice: %v", err)
				}
				switch label {
				case "others", "comments", "crlf":
					if string(back) != before {
						t.Errorf("removed (-before +after):\n%s", cmp.Diff(before, string(back)))
					}
				}
			})
		}
	}
}

// Two entries and one of the user's between them: each is removed alone.
func TestRemoveOneOfSeveral(t *testing.T) {
	for _, c := range Clients {
		t.Run(c.Name, func(t *testing.T) {
			proto := protocol(t, c.Protocols[0])
			var data []byte
			var err error
			for _, name := range []string{"a", "b", "c"} {
				if data, err = c.format.put(data, proto, endpoint(name), ""); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"b", "a", "c"} {
				if data, err = c.format.remove(data, name); err != nil {
					t.Fatalf("%s: %v\n%s", name, err, data)
				}
			}
			if list, err := c.Entries(data); err != nil || len(list) > 0 {
				t.Errorf("left: %v, %v\n%s", list, err, data)
			}
		})
	}
}

// A changed address replaces the entry, and the user's own words in other
// entries stay.
func TestReplace(t *testing.T) {
	for _, c := range Clients {
		t.Run(c.Name, func(t *testing.T) {
			proto := protocol(t, c.Protocols[0])
			data, err := c.format.put(nil, proto, endpoint("a"), "")
			if err != nil {
				t.Fatal(err)
			}
			if data, err = c.format.put(data, proto, endpoint("b"), ""); err != nil {
				t.Fatal(err)
			}
			ep := endpoint("a")
			ep.Port = 7777
			if data, err = c.format.put(data, proto, ep, ""); err != nil {
				t.Fatal(err)
			}
			want := []Entry{{"a", "127.0.0.1:7777"}, {"b", "127.0.0.1:5544"}}
			if list, _ := c.Entries(data); !cmp.Equal(list, want) {
				t.Errorf("entries %v, want %v\n%s", list, want, data)
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	for _, tt := range []struct{ client, name, content, want string }{
		{"dbeaver", "cut_off", `{"connections": {`, "not valid JSON"},
		{"dbeaver", "comment", "{ // no\n}", "not valid JSON"},
		{"dbeaver", "list", `[]`, "no JSON object"},
		{"dbeaver", "connections_list", `{"connections": []}`, "is no object"},
		{"vscode", "cut_off", "{\n  \"a\": [1,\n", "not valid JSON"},
		{"vscode", "no_list", `{"sqltools.connections": {}}`, "is no list"},
		{"vscode", "taken", `{"sqltools.connections": [{"name": "a"}]}`, "not berth's"},
		{"pgservice", "taken", "[a]\nhost=x\n", "not berth's"},
		{"pgservice", "no_setting", "[a]\nhost\n", "line 2 is no setting"},
		{"pgservice", "outside", "host=x\n", "line 1 is outside of a section"},
		{"pgservice", "half", "# berth: begin a\n[a]\nhost=x\n", "has no end"},
		{"pgservice", "nested", "# berth: begin a\n# berth: begin b\n", "within another"},
		{"pgservice", "end_alone", "# berth: end a\n", "does not begin"},
		{"pgservice", "binary", "\x00\x01", "not a text file"},
		{"mycnf", "taken", "[client_a]\nuser=x\n", "not berth's"},
		{"mycnf", "open", "[client\nuser=x\n", "without an end"},
		{"mycnf", "outside", "user=x\n", "outside of a section"},
	} {
		t.Run(tt.client+"/"+tt.name, func(t *testing.T) {
			c := client(t, tt.client)
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, tt.content)
			f := File{Client: c, Path: path, Record: filepath.Join(t.TempDir(), "record.json")}
			_, err := f.Add(protocol(t, c.Protocols[0]), endpoint("a"))
			var broken *BrokenError
			if !errors.As(err, &broken) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Add = %v, want a refusal with %q", err, tt.want)
			}
			if got := read(t, path); got != tt.content {
				t.Errorf("the file has changed: %q", got)
			}
		})
	}
}

// The file is written through a symbolic link, keeps its mode, has a copy
// beside it, and is what it was after the removal.
func TestFile(t *testing.T) {
	for _, c := range Clients {
		t.Run(c.Name, func(t *testing.T) {
			dir := t.TempDir()
			target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
			before := map[string]string{
				"dbeaver": `{"folders": {}}`, "vscode": "{}", "pgservice": "[x]\nhost=y", "mycnf": "[client]\nuser=x",
			}[c.Name]
			write(t, target, before)
			if err := os.Chmod(target, 0o640); err != nil {
				t.Fatal(err)
			}
			testneeds.Here(t, "symbolic links", os.Symlink(target, link))
			f := File{Client: c, Path: link, Record: filepath.Join(dir, "state", "record.json")}
			change, err := f.Add(protocol(t, c.Protocols[0]), endpoint("a"))
			if err != nil {
				t.Fatal(err)
			}
			backup, err := change.Apply()
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, backup); got != before {
				t.Errorf("the copy holds %q, want %q", got, before)
			}
			if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("the link was replaced: %v, %v", info, err)
			}
			if info, err := os.Stat(target); runtime.GOOS != "windows" && (err != nil || info.Mode().Perm() != 0o640) {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if change, err = f.Drop("a"); err != nil {
				t.Fatal(err)
			}
			if _, err := change.Apply(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, target); got != before {
				t.Errorf("after the removal %q, want %q", got, before)
			}
			if _, err := os.Stat(backup); err == nil {
				t.Error("the copy is left behind")
			}
		})
	}
}

// A file that berth has made is removed again; one that the user has changed
// since keeps the change.
func TestUndo(t *testing.T) {
	dir := t.TempDir()
	c := client(t, "pgservice")
	f := File{Client: c, Path: filepath.Join(dir, "deep", "service.conf"), Record: filepath.Join(dir, "record.json")}
	apply := func(change *Change, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := change.Apply(); err != nil {
			t.Fatal(err)
		}
	}
	apply(f.Add(protocol(t, "postgres"), endpoint("a")))
	apply(f.Drop("a"))
	if _, err := os.Stat(f.Path); err == nil {
		t.Error("the file that berth made is left behind")
	}
	apply(f.Add(protocol(t, "postgres"), endpoint("a")))
	write(t, f.Path, read(t, f.Path)+"\n[mine]\nhost=x\n")
	apply(f.Drop("a"))
	if got := read(t, f.Path); got != "\n[mine]\nhost=x\n" {
		t.Errorf("the user's change: %q", got)
	}
}

// The copy from before berth's first entry outlives the next ones, and is what
// the file becomes when the last one goes. A content of the user's own that came
// later has a copy of its own.
func TestCopies(t *testing.T) {
	for _, c := range Clients {
		t.Run(c.Name, func(t *testing.T) {
			dir := t.TempDir()
			before := map[string]string{
				"dbeaver": `{"folders":{} }`, "vscode": "{ }", "pgservice": "[x]\nhost=y", "mycnf": "[client]\nuser=x",
			}[c.Name]
			f := File{Client: c, Path: filepath.Join(dir, "file"), Record: filepath.Join(dir, "record.json")}
			write(t, f.Path, before)
			first := f.Path + backupSuffix
			apply := func(change *Change, err error) string {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				backup, err := change.Apply()
				if err != nil {
					t.Fatal(err)
				}
				return backup
			}
			proto := protocol(t, c.Protocols[0])
			if got := apply(f.Add(proto, endpoint("a"))); got != first {
				t.Errorf("the first copy is %q, want %q", got, first)
			}
			apply(f.Add(proto, endpoint("b")))
			if got := read(t, first); got != before {
				t.Errorf("after two entries the copy holds %q, want %q", got, before)
			}
			apply(f.Drop("a"))
			apply(f.Drop("b"))
			if got := read(t, f.Path); got != before {
				t.Errorf("without entries the file holds %q, want %q", got, before)
			}
			if left, _ := filepath.Glob(f.Path + backupSuffix + "*"); len(left) > 0 {
				t.Errorf("copies are left behind: %v", left)
			}

			apply(f.Add(proto, endpoint("a")))
			mine := read(t, f.Path) + "\n"
			write(t, f.Path, mine)
			second := apply(f.Add(proto, endpoint("b")))
			if got := read(t, first); got != before {
				t.Errorf("after a change of the user's the first copy holds %q, want %q", got, before)
			}
			if second == first || read(t, second) != mine {
				t.Errorf("the copy of the user's change is %q", second)
			}
		})
	}
}

// A program that writes between the question and the answer wins.
func TestChangedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	f := File{Client: client(t, "mycnf"), Path: filepath.Join(dir, "my.cnf"), Record: filepath.Join(dir, "record.json")}
	change, err := f.Add(protocol(t, "mysql"), endpoint("a"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.Path, "[client]\nuser=x\n")
	if _, err := change.Apply(); !errors.Is(err, ErrChanged) {
		t.Errorf("Apply = %v, want ErrChanged", err)
	}
	if got := read(t, f.Path); got != "[client]\nuser=x\n" {
		t.Errorf("the file holds %q", got)
	}
}

func TestDiff(t *testing.T) {
	before := "{\"password\": \"s3cret\", \"name\": \"a\"}\n"
	after := "{\"password\": \"s3cret\", \"name\": \"a\"},\npassword=other\npassword=\nuser=b\n"
	want := "@@ line 1 @@\n-{\"password\": ***, \"name\": \"a\"}\n+{\"password\": ***, \"name\": \"a\"},\n" +
		"+password=***\n+password=\n+user=b\n"
	if diff := cmp.Diff(want, Diff([]byte(before), []byte(after))); diff != "" {
		t.Error(diff)
	}
}

// FuzzClients: whatever a file holds, an entry goes in and comes out, or the
// file is refused.
func FuzzClients(f *testing.F) {
	for _, seed := range []string{"", "{}", "{\"a\":[1,],}", "{\"connections\":{\"x\":{}}}", "[a]\nb=c\n", "# berth: begin a\n", "{//\n}",
		"{\"sqltools.connections\":[{\"name\":\"x\"},]/* y */}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		for _, c := range Clients {
			after, err := c.format.put([]byte(content), protocol(t, c.Protocols[0]), endpoint("a"), "")
			if err != nil {
				continue
			}
			if _, err := c.format.remove(after, "a"); err != nil {
				t.Errorf("%s: %v\n%q\n%q", c.Name, err, content, after)
			}
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
