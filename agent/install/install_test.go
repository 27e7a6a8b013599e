package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/tshhome"
)

func TestFirstLogin(t *testing.T) {
	for _, tt := range []struct {
		name    string
		before  map[string]string // files in the home
		current string            // afterwards
	}{
		{"absent_home", nil, proxyName + "\n"},
		{"another_profile_is_current", map[string]string{
			"other.test.yaml": "web_proxy_addr: other.test:443\nuser: bob\n", "current-profile": "other.test\n",
		}, proxyName + "\n"},
		{"renewal_of_a_profile_not_current", map[string]string{
			proxyName + ".yaml": "web_proxy_addr: proxy.test:443\nuser: alice\n", "current-profile": "other.test\n",
		}, "other.test\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tshhome.V17)
			for name, content := range tt.before {
				f.write(name, content)
			}
			f.check(Login(t.Context(), f.config()))
			if role := f.role(); role != "new" {
				t.Errorf("role = %q, want %q", role, "new")
			}
			if got := f.read("current-profile"); got != tt.current {
				t.Errorf("current profile = %q, want %q", got, tt.current)
			}
			if runtime.GOOS != "windows" {
				for path, e := range must(readFolder(f.home.Dir)) {
					if e.mode.Perm()&0o077 != 0 && tt.before[path] == "" {
						t.Errorf("mode of %s = %v, want nothing for others", path, e.mode)
					}
				}
			}
			f.tidy()
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What is not the session's stays, byte by byte.
func TestOthersStay(t *testing.T) {
	for way, swap := range ways {
		t.Run(way, func(t *testing.T) {
			f := newFixture(t, tshhome.V16).withOld(tshhome.V17)
			keys := "keys/" + proxyName + "/"
			others := map[string]string{
				keys + "bob": "key", keys + "bob.key": "tls key", keys + "bob-ssh/root-cert.pub": "cert",
				keys + "alice2": "key", keys + "alice-x": "key", keys + "alice-db.key": "key of alice-db",
				keys + "cas/leaf.pem": "a leaf's CA", keys + "alice-kube/root/localca.pem": "CA",
				"keys/other.test/alice": "key", "config/config.yaml": "x", "azure/x/y": "x", "bin/tsh": "x",
				"other.test.yaml": "web_proxy_addr: other.test:443\nuser: alice\n",
			}
			for path, content := range others {
				f.write(path, content)
			}
			f.write("known_hosts", "@cert-authority other.test ssh-rsa BBBB\nno newline")
			f.check(login(t.Context(), f.config(), &disk{swap: swap}))
			for path, content := range others {
				if got := f.read(path); got != content {
					t.Errorf("%s = %q, want %q", path, got, content)
				}
			}
			want := "@cert-authority other.test ssh-rsa BBBB\nno newline\n" + string(f.new.KnownHosts)
			if got := f.read("known_hosts"); got != want {
				t.Errorf("known hosts = %q, want %q", got, want)
			}
			for _, name := range []string{"alice.key", "alice.crt", "kube_credentials.lock"} {
				if got := f.read(keys + name); got != "<none>" {
					t.Errorf("%s of the old layout is still there", name)
				}
			}
			f.mustHold("new")
			f.tidy()
		})
	}
}

// Another user's login leaves the old user's files, and the profile decides.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
	f.stage(certwatchtest.Login{Layout: tshhome.V17, Identity: certwatch.Identity{User: "bob", Roles: []string{"new"}}})
	var user *UserError
	if err := Login(t.Context(), f.config()); !errors.As(err, &user) || user.Got != "bob" {
		t.Errorf("Login as %q = %v, want a UserError about bob", userName, err)
	}
	cfg := f.config()
	cfg.User = ""
	pristine := f.home.Dir
	for n := 0; ; n += stride() {
		f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
		copyHome(t, pristine, f.home.Dir)
		cfg.Home = f.home.Dir
		k := &killer{left: n}
		cfg.Before = k.before
		err := Login(t.Context(), cfg)
		if role := f.role(); role != "old" && role != "new" {
			t.Fatalf("after %d steps role = %q", n, role)
		}
		if !k.dead {
			f.check(err)
			break
		}
		f.check(Recover(t.Context(), f.home.Dir, nil))
		f.role()
	}
	if role := f.role(); role != "new" {
		t.Errorf("role = %q, want %q", role, "new")
	}
	if got := f.read("keys/" + proxyName + "/alice"); got != string(f.old.SSHKey) {
		t.Error("the other user's key is gone")
	}
}

// A login that is not whole, or not what it says, changes nothing.
func TestLoginRefuses(t *testing.T) {
	keys := filepath.Join("keys", proxyName)
	for _, tt := range []struct {
		name  string
		spoil func(dir string) error
	}{
		{"no_profile", func(d string) error { return os.Remove(filepath.Join(d, proxyName+".yaml")) }},
		{"rubbish_profile", func(d string) error {
			return os.WriteFile(filepath.Join(d, proxyName+".yaml"), []byte("\t: ["), 0o600)
		}},
		{"user_with_a_separator", func(d string) error {
			return os.WriteFile(filepath.Join(d, proxyName+".yaml"), []byte("user: ../../alice\ncluster: root\n"), 0o600)
		}},
		{"user_called_cas", func(d string) error {
			return os.WriteFile(filepath.Join(d, proxyName+".yaml"), []byte("user: cas\ncluster: root\n"), 0o600)
		}},
		{"no_certificate", func(d string) error { return os.Remove(filepath.Join(d, keys, "alice.crt")) }},
		{"half_a_key", func(d string) error { return os.Truncate(filepath.Join(d, keys, "alice.key"), 40) }},
		{"no_public_key", func(d string) error { return os.Remove(filepath.Join(d, keys, "alice.pub")) }},
		{"no_ssh_certificate", func(d string) error { return os.RemoveAll(filepath.Join(d, keys, "alice-ssh")) }},
		{"huge_file", func(d string) error {
			return os.WriteFile(filepath.Join(d, keys, "huge"), make([]byte, maxFile+1), 0o600)
		}},
		{"nothing", os.RemoveAll},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			f.check(tt.spoil(f.staging.Dir))
			before := must(readFolder(f.home.Dir))
			if err := Login(t.Context(), f.config()); err == nil {
				t.Error("Login = nil, want an error")
			}
			if !before.same(must(readFolder(f.home.Dir))) {
				t.Error("the home has changed")
			}
		})
	}
}

// What others write into the folder while the new one is built is not lost.
func TestOthersWriteMeanwhile(t *testing.T) {
	f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
	key := "keys/" + proxyName + "/"
	f.write(key+"dave", "key")
	n := 0
	before := func(step string) error {
		if strings.HasPrefix(step, "exchange ") { // after the last look, too late for it
			n++
			f.write(key+"carol", fmt.Sprint("key ", n))
			_ = os.Remove(filepath.Join(f.home.Dir, key+"dave"))
		}
		if n == 0 && strings.HasPrefix(step, "create ") && strings.HasSuffix(step, "alice.crt") { // while it is built
			n++
			f.write(key+"bob", "bob's key")
		}
		return nil
	}
	f.check(login(t.Context(), f.config(), &disk{before: before}))
	if bob, carol, dave := f.read(key+"bob"), f.read(key+"carol"), f.read(key+"dave"); bob != "bob's key" || carol != fmt.Sprint("key ", n) || dave != "<none>" {
		t.Errorf("bob, carol, dave = %q, %q, %q; want what was written last", bob, carol, dave)
	}
	f.mustHold("new")
}

// tsh, reissuing just then, writes the old session's files over the new ones.
func TestOldFilesWrittenOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
	once := false
	before := func(step string) error {
		if strings.HasPrefix(step, "rename ") && strings.HasSuffix(step, proxyName+".yaml") && !once {
			once = true
			f.write("keys/"+proxyName+"/alice.crt", string(f.old.Cert))
		}
		return nil
	}
	f.home.Layout = tshhome.V17
	f.write(proxyName+".yaml", "web_proxy_addr: old\nuser: alice\ncluster: root\n")
	f.check(login(t.Context(), f.config(), &disk{before: before}))
	if !once {
		t.Fatal("nothing was written over")
	}
	f.mustHold("new")
	if role := f.role(); role != "new" {
		t.Errorf("role = %q, want %q", role, "new")
	}
}

// The lock that tsh holds on a key is waited for.
func TestKeyLock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
	unlock, err := lockKey(t.Context(), &disk{}, filepath.Join(f.home.Dir, "keys", proxyName, "alice.key"))
	f.check(err)
	if err := Login(t.Context(), f.config()); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("Login under tsh's lock = %v, want it to say so", err)
	}
	f.mustHold("old")
	f.tidy()
	unlock()
	f.check(Login(t.Context(), f.config()))
	f.mustHold("new")
}

func TestTwoInstallers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tshhome.V16).withOld(tshhome.V16)
	errs := make(chan error)
	for range 4 {
		go func() { errs <- Login(t.Context(), f.config()) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	f.mustHold("new")
	f.tidy()
}

// A journal that is not ours, or torn, harms nothing.
func TestRubbishJournal(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "precious")
	for name, journal := range map[string]string{
		"torn": `{"Profile": "prox`, "empty": "",
		"elsewhere": fmt.Sprintf(`{"Profile":"p","User":"u","Dir":%q,"Build":%q}`, outside+"/a", outside),
		"traversal": fmt.Sprintf(`{"Profile":"../p","User":"u","Dir":%q,"Build":%q}`, outside, outside+"/../.berth-x"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			f.check(os.MkdirAll(outside, 0o700))
			f.write(filepath.Join(workName, journalName), journal)
			f.check(Recover(t.Context(), f.home.Dir, nil))
			if _, err := os.Stat(outside); err != nil {
				t.Error(err)
			}
			f.mustHold("old")
			f.tidy()
		})
	}
}

// Recover does not undo what a user has done since the kill.
func TestRecoverLeavesALaterLogin(t *testing.T) {
	for way, swap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			pristine := f.home.Dir
			later := certwatchtest.Login{Layout: tshhome.V17, Identity: certwatch.Identity{Roles: []string{"later"}}}
			prof, creds := f.ca.Issue(t, later)
			for n := 0; ; n += stride() {
				f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
				copyHome(t, pristine, f.home.Dir)
				k := &killer{left: n}
				_ = login(t.Context(), f.config(), &disk{before: k.before, swap: swap})
				if !k.dead {
					break
				}
				f.check(f.home.Login(prof, creds))
				f.check(Recover(t.Context(), f.home.Dir, nil))
				if role := f.role(); role != "later" {
					t.Fatalf("killed after %d steps (%s), then logged in: role = %q, want %q", n, last(k.steps), role, "later")
				}
				f.tidy()
			}
		})
	}
}

func TestMergeLines(t *testing.T) {
	for _, tt := range []struct{ have, more, want string }{
		{"", "a\nb\n", "a\nb\n"},
		{"a\n", "", "a\n"},
		{"a", "b", "a\nb\n"},
		{"a\r\nb\n", "b\n\na\nc\nc\n", "a\r\nb\nc\n"},
	} {
		if got := string(mergeLines([]byte(tt.have), []byte(tt.more))); got != tt.want {
			t.Errorf("mergeLines(%q, %q) = %q, want %q", tt.have, tt.more, got, tt.want)
		}
	}
}

func TestOrderOfWriting(t *testing.T) {
	got := ownership{"u"}.ordered([]string{"u-ssh/c-cert.pub", "u-x509.pem", "u.pub", "u", "u.crt", "u.key", "x", "certs.pem", "cas/c.pem"})
	want := []string{"cas/c.pem", "certs.pem", "x", "u.key", "u.crt", "u", "u.pub", "u-x509.pem", "u-ssh/c-cert.pub"}
	if !slices.Equal(got, want) {
		t.Errorf("order = %v, want %v", got, want)
	}
}
