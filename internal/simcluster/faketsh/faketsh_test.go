package faketsh

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/internal/simcluster"
	"berth/internal/testwait"
)

const red = "\x1b[31mERROR: \x1b[0m"

func TestInvoked(t *testing.T) {
	for _, tt := range []struct {
		argv0 string
		env   []string
		want  bool
	}{
		{"tsh", nil, true},
		{filepath.Join("somewhere", "tsh.exe"), nil, true},
		{"berth", []string{"BERTH_FAKE_TSH=1"}, true},
		{"berth", []string{"BERTH_FAKE_TSH=0"}, false},
		{"berth", nil, false},
	} {
		if got := Invoked(tt.argv0, tt.env); got != tt.want {
			t.Errorf("Invoked(%q, %q) = %v, want %v", tt.argv0, tt.env, got, tt.want)
		}
	}
}

func TestParseFlags(t *testing.T) {
	f, words, err := parseFlags([]string{"proxy", "--port=1", "db", "--db-user", "u", "-d", "-fjson", "--no-tunnel", "pg", "--", "--x"})
	want := flags{"port": "1", "db-user": "u", "debug": "true", "format": "json", "tunnel": "false"}
	if err != nil || !maps.Equal(f, want) || !slices.Equal(words, []string{"proxy", "db", "pg", "--x"}) {
		t.Errorf("flags %v, words %q, %v", f, words, err)
	}
	for _, args := range [][]string{{"--nonsense"}, {"--no-proxy"}, {"-z"}, {"--proxy"}} {
		if _, _, err := parseFlags(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	w.tsh(t).want(t, 1, "", "command not specified")
	w.tsh(t, "dance").want(t, 1, "", `expected command but got "dance"`)
	w.tsh(t, "login", "--nonsense").want(t, 1, "", red+"unknown long flag '--nonsense'")
	w.tsh(t, "login").want(t, 1, "", "No proxy address specified")
	w.tsh(t, "login", "--proxy="+w.ProxyAddr(), "--ttl=x").want(t, 1, "", "invalid value")
}

func TestVersion(t *testing.T) {
	w := newWorld(t, simcluster.Config{Version: simcluster.V17})
	w.tsh(t, "version", "--client").want(t, 0, "Teleport v17.2.3 git:", "")
	r := w.tsh(t, "version", "--client", "--format=json")
	var got map[string]string
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || got["version"] != "17.2.3" {
		t.Errorf("%s, %v", r.stdout, err)
	}
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "version").want(t, 0, "Proxy version: 17.2.3", "")
}

func TestPasswordNeedsATerminal(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	w.tsh(t, "login", "--proxy="+w.ProxyAddr(), "--user=alice").
		want(t, 1, "", red+"cannot perform password login without a terminal\n\tunderlying reader is not a terminal")
}

func TestProxyTrouble(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	addr := w.ProxyAddr()
	w.tshEnv(t, []string{"SSL_CERT_FILE="}, "login", "--proxy="+addr).
		want(t, 1, "", "WARNING: The proxy you are connecting to has presented a certificate signed by a unknown authority.")
	w.tshEnv(t, []string{"SSL_CERT_FILE="}, "login", "--insecure", "--proxy="+addr).
		want(t, 1, "", "WARNING: You are using insecure connection to Teleport proxy https://"+addr)
	w.tsh(t, "login", "--proxy="+addr, "--auth=nope").want(t, 1, "", "invalid connector name: nope; valid options: \n")
	w.Faults().Stop()
	w.tsh(t, "login", "--proxy="+addr).want(t, 1, "", `Get "https://`+addr+`/webapi/ping": dial tcp`)
	w.tsh(t, "login", "--proxy="+addr).want(t, 1, "", "connect: connection refused")
	w.tsh(t, "login", "--insecure", "--proxy="+addr).want(t, 1, "", `Get "http://`+addr+`/webapi/ping"`)
}

func TestStatus(t *testing.T) {
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		w := newWorld(t, simcluster.Config{Version: version})
		w.tsh(t, "status").want(t, 1, "", red+"Not logged in.")
		if err := w.Login(w.home, "alice", simcluster.WithTTL(time.Hour)); err != nil {
			t.Fatal(err)
		}
		r := w.tsh(t, "status")
		r.want(t, 0, "> Profile URL:        https://"+w.ProxyAddr(), "")
		r.want(t, 0, "  Logged in as:       alice", "")
		r.want(t, 0, "  Roles:              access", "")
		r.want(t, 0, "[valid for 1h0m]", "")
		r.want(t, 0, "  Extensions:         login-ip, permit-agent-forwarding, permit-port-forwarding, permit-pty, private-key-policy\n", "")
		r = w.tsh(t, "status", "--format=json")
		var got struct {
			Active statusJSON `json:"active"`
		}
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.code != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if a := got.Active; a.Username != "alice" || a.Cluster != w.Name() || !slices.Equal(a.Roles, []string{"access"}) || time.Until(a.ValidUntil) > time.Hour {
			t.Errorf("%+v", a)
		}
		if err := w.Login(w.home, "alice", simcluster.WithTTL(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		w.tsh(t, "status").want(t, 1, "[EXPIRED]", "Active profile expired.")
		w.tsh(t, "status", "--format=json").want(t, 1, `"username": "alice"`, "Active profile expired.")
	}
}

func TestLoginDoesNothingWhileTheSessionIsValid(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	for name := range w.files(t) { // whatever is written now has another time
		past := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(w.home, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	before := w.files(t)
	w.tsh(t, "login", "--ttl=1").want(t, 0, "Logged in as:       alice", "")
	if after := w.files(t); !maps.Equal(before, after) {
		t.Errorf("files were touched:\n%v\n%v", before, after)
	}
	w.tsh(t, "login", "--proxy="+w.ProxyAddr()).want(t, 0, "Logged in as:       alice", "")
	var touched []string
	for name, at := range w.files(t) {
		if at != before[name] {
			touched = append(touched, name)
		}
	}
	slices.Sort(touched)
	if want := []string{"current-profile", "localhost.yaml"}; !slices.Equal(touched, want) {
		t.Errorf("touched %q, want %q", touched, want)
	}
	if n := w.Counters().Logins; n != 1 {
		t.Errorf("%d logins, want the first only", n)
	}
}

func TestLoginAsAnotherUserBreaksTheProfile(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "login", "--user=bob").want(t, 0, "Logged in as:       bob", "")
	w.tsh(t, "status").want(t, 1, "", "Not logged in.")
}

func TestExpiredWithoutATerminal(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	if err := w.Login(w.home, "alice", simcluster.WithTTL(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	before := w.files(t)
	w.tsh(t, "request", "ls").want(t, 1, "", red+"ssh: cert has expired")
	w.tsh(t, "db", "ls", "--format=json").want(t, 1, "", red+"ssh: cert has expired")
	w.tsh(t, "db", "login", "pg").want(t, 1, "", "cannot perform password login without a terminal")
	w.tsh(t, "proxy", "db", "--tunnel", "pg").want(t, 1, "", "cannot perform password login without a terminal")
	w.tsh(t, "login").want(t, 1, "", "cannot perform password login without a terminal")
	if after := w.files(t); !maps.Equal(before, after) {
		t.Errorf("a login that failed changed files:\n%v\n%v", before, after)
	}
}

func TestLogout(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	w.tsh(t, "logout", "--proxy=localhost", "--user=alice").want(t, 1, "", "is not logged in")
	w.tsh(t, "logout", "--proxy=localhost").want(t, 1, "", "specify both")
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "logout", "--proxy="+w.ProxyAddr(), "--user=alice").want(t, 0, "Logged out alice from localhost.", "")
	files := w.files(t)
	if _, ok := files["localhost.yaml"]; !ok {
		t.Error("the profile's yaml must stay")
	}
	if _, ok := files[filepath.Join("keys", "localhost", "alice")]; ok {
		t.Error("the key must go")
	}
	w.tsh(t, "status").want(t, 1, "", "Not logged in.")
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "logout").want(t, 0, "Logged out all users from all proxies.", "")
	if files := w.files(t); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
	w.tsh(t, "logout").want(t, 0, "All users logged out.\n", "")
}

func TestDBList(t *testing.T) {
	w := newWorld(t, simcluster.Config{Roles: []simcluster.Role{{Name: "access", DBUsers: []string{"reader"}}}})
	w.tsh(t, "db", "ls").want(t, 1, "", red+"No proxy address specified, missed --proxy flag?\n")
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "db", "ls").want(t, 0, "pg", "")
	r := w.tsh(t, "db", "ls", "--format=json")
	var got []struct {
		Metadata struct{ Name string }
		Spec     struct{ Protocol string }
		Users    struct{ Allowed []string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got) != 2 {
		t.Fatalf("%s, %v", r.stdout, err)
	}
	if db := got[1]; db.Metadata.Name != "pg" || db.Spec.Protocol != "postgres" || !slices.Equal(db.Users.Allowed, []string{"reader"}) {
		t.Errorf("%+v", db)
	}
	w.RemoveDatabase("pg")
	w.RemoveDatabase("kv")
	w.tsh(t, "db", "ls", "--format=json").want(t, 0, "null\n", "")
}

func TestDBLogin(t *testing.T) {
	for version, files := range map[string][]string{
		simcluster.V16: {"pg-x509.pem"},
		simcluster.V17: {"pg.crt", "pg.key"},
	} {
		w := newWorld(t, simcluster.Config{Version: version})
		if err := w.Login(w.home, "alice"); err != nil {
			t.Fatal(err)
		}
		w.tsh(t, "db", "login", "nope").want(t, 1, "", `database "nope" not found`)
		w.tsh(t, "db", "login", "pg").want(t, 0, "has been saved", "")
		dir := filepath.Join(w.home, "keys", "localhost", "alice-db", w.Name())
		for _, name := range files {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		w.tsh(t, "db", "logout", "pg").want(t, 0, "Logged out of database pg", "")
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		w := newWorld(t, simcluster.Config{Version: version, Roles: []simcluster.Role{{Name: "access"}, {Name: "dba"}}})
		if err := w.Login(w.home, "alice"); err != nil {
			t.Fatal(err)
		}
		if r := w.tsh(t, "request", "ls", "--format=json"); r.code != 0 || r.stdout != "null" {
			t.Errorf("no requests: %+v, want null without a newline", r)
		}
		put := func(id string, state types.RequestState) {
			w.PutAccessRequest(simcluster.AccessRequest{ID: id, User: "alice", Roles: []string{"dba"}, State: state, Reason: "because"})
		}
		put("11111111-1111-1111-1111-111111111111", types.RequestState_APPROVED)
		put("22222222-2222-2222-2222-222222222222", types.RequestState_DENIED)
		var got []struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				State int
				Roles []string
			}
		}
		r := w.tsh(t, "request", "ls", "--format=json")
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got) != 2 || got[0].Kind != "access_request" || got[0].Spec.State != 2 {
			t.Errorf("%s, %v", r.stdout, err)
		}
		w.tsh(t, "login", "--request-id=nope").want(t, 1, "", `invalid access request "nope"`)
		w.tsh(t, "login", "--request-id=22222222-2222-2222-2222-222222222222").want(t, 1, "", "has been set to DENIED")
		// The status it prints is the one from before.
		r = w.tsh(t, "login", "--request-id=11111111-1111-1111-1111-111111111111")
		r.want(t, 0, "Roles:              access\n", "Getting updated certificates...")
		r.want(t, 0, "", "Approval received, reason=")
		w.tsh(t, "status").want(t, 0, "Roles:              access, dba\n", "")
		w.tsh(t, "status").want(t, 0, "Active requests:    11111111-1111-1111-1111-111111111111", "")
		w.tsh(t, "request", "drop").want(t, 0, "Roles:              access\n", "")
	}
}

func TestPendingRequestIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simcluster.Config{Roles: []simcluster.Role{{Name: "access"}, {Name: "dba"}}})
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	r := simcluster.AccessRequest{ID: "11111111-1111-1111-1111-111111111111", User: "alice", Roles: []string{"dba"}, State: types.RequestState_PENDING}
	w.PutAccessRequest(r)
	p := w.begin(t, "login", "--request-id="+r.ID)
	testwait.Eventually(t, "it waits", func() bool { return strings.Contains(p.stdout.String(), "Waiting for request approval...") })
	r.State = types.RequestState_APPROVED
	w.PutAccessRequest(r)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit %d: %s", code, p.stderr.String())
	}
	w.tsh(t, "status").want(t, 0, "access, dba", "")
}

func TestLoginLeaf(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	if _, err := w.AddLeaf("leaf.test", simcluster.Database{Name: "leafdb", Protocol: "postgres"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "login", "nowhere.test").want(t, 1, "", `remote cluster "nowhere.test" is not found`)
	w.tsh(t, "login", "leaf.test").want(t, 0, "Cluster:            leaf.test", "")
	w.tsh(t, "status").want(t, 0, "Cluster:            leaf.test", "")
	w.tsh(t, "db", "ls").want(t, 0, "leafdb", "")
	w.tsh(t, "db", "ls", "--cluster="+w.Name()).want(t, 0, "pg", "")
	for _, name := range []string{"leaf.test", w.Name()} {
		if _, err := os.Stat(filepath.Join(w.home, "keys", "localhost", "alice-ssh", name+"-cert.pub")); err != nil {
			t.Error(err)
		}
	}
}

func TestLoginToARealHomeVariable(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	home := t.TempDir()
	if err := w.Login(filepath.Join(home, ".tsh"), "alice"); err != nil {
		t.Fatal(err)
	}
	w.tshEnv(t, []string{"TELEPORT_HOME=", "HOME=" + home}, "status").want(t, 0, "Logged in as:       alice", "")
	w.tshEnv(t, []string{"TELEPORT_HOME=", "HOME="}, "status").want(t, 1, "", "neither TELEPORT_HOME nor HOME is set")
}
