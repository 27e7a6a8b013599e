package certwatch_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/tshhome"
)

// A fixture is a home with one login in it.
type fixture struct {
	t     *testing.T
	ca    *certwatchtest.CA
	home  tshhome.Home
	prof  tshhome.Profile
	creds tshhome.Credentials
}

// newFixture writes a home with what login says.
func newFixture(t *testing.T, login certwatchtest.Login) *fixture {
	t.Helper()
	f := &fixture{t: t, ca: certwatchtest.NewCA(t, "root")}
	f.prof, f.creds = f.ca.Issue(t, login)
	f.home = tshhome.Home{Dir: filepath.Join(t.TempDir(), ".tsh"), Layout: tshhome.V17}
	if login.Layout != 0 {
		f.home.Layout = login.Layout
	}
	f.check(f.home.Login(f.prof, f.creds))
	return f
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// path returns a file's path in the home; %s stands for the keys folder.
func (f *fixture) path(name string) string {
	return filepath.Join(f.home.Dir, strings.ReplaceAll(name, "%s", "keys/proxy.test"))
}

func (f *fixture) put(name string, content []byte) {
	f.t.Helper()
	f.check(os.WriteFile(f.path(name), content, 0o600))
}

func (f *fixture) remove(names ...string) {
	f.t.Helper()
	for _, name := range names {
		f.check(os.RemoveAll(f.path(name)))
	}
}

// age makes everything in the home look written long ago, in its order.
func (f *fixture) age() {
	f.t.Helper()
	age(f.t, f.home.Dir)
}

func age(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.Mode()&os.ModeNamedPipe != 0 {
			return err
		}
		return os.Chtimes(path, old, old)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// load reads the home and returns its only profile.
func (f *fixture) load() *certwatch.Profile {
	f.t.Helper()
	profiles, err := certwatch.Load(f.home.Dir)
	f.check(err)
	if len(profiles) != 1 {
		f.t.Fatalf("Load = %d profiles, want 1", len(profiles))
	}
	return profiles[0]
}

func TestLoadBothLayouts(t *testing.T) {
	rsaKey := certwatchtest.RSAKey(t)
	_, ed := certwatchtest.Keys(t)
	for _, tt := range []struct {
		name   string
		layout tshhome.Layout
		key    crypto.Signer
		want   certwatch.Layout
	}{
		{"v16_rsa", tshhome.V16, rsaKey, certwatch.LayoutV16},
		{"v16_ecdsa", tshhome.V16, nil, certwatch.LayoutV16},
		{"v17_ecdsa", tshhome.V17, nil, certwatch.LayoutV17},
		{"v17_rsa", tshhome.V17, rsaKey, certwatch.LayoutV17},
		{"v17_ed25519", tshhome.V17, ed, certwatch.LayoutV17},
	} {
		t.Run(tt.name, func(t *testing.T) {
			notAfter := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
			login := certwatchtest.Login{
				Layout: tt.layout, TLSKey: tt.key, NotAfter: notAfter,
				SSHNotAfter: notAfter.Add(-time.Minute),
			}
			login.Identity.Roles = []string{"access"}
			login.Identity.Logins = []string{"root"}
			login.Identity.ActiveRequests = []string{"req-1"}
			f := newFixture(t, login)
			f.age()
			p := f.load()
			if p.Problem != nil || p.Session == nil || p.Session.SSH == nil || p.Session.KeyError != nil {
				t.Fatalf("profile = %+v, want a whole session", p)
			}
			got := *p
			got.Session = nil
			want := certwatch.Profile{
				Home: f.home.Dir, Name: "proxy.test", Current: true, ProxyAddr: "proxy.test:443", User: "alice",
				Cluster: "root", RootCluster: "root", AuthConnector: "local", MFAMode: "auto",
				PrivateKeyPolicy: "none", TLSRoutingEnabled: true,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
			s := p.Session
			if s.Layout != tt.want {
				t.Errorf("layout = %v, want %v", s.Layout, tt.want)
			}
			if !s.ValidUntil.Equal(notAfter.Add(-time.Minute)) {
				t.Errorf("valid until %v, want the SSH certificate's end %v", s.ValidUntil, notAfter.Add(-time.Minute))
			}
			if s.Cert.Leaf == nil || s.Identity.User != "alice" || s.SSH.KeyID != "alice" {
				t.Errorf("identity = %+v, SSH %+v, want alice's", s.Identity, s.SSH)
			}
			if diff := cmp.Diff([]string{"req-1"}, s.SSH.ActiveRequests); diff != "" {
				t.Errorf("SSH active requests (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"access"}, s.SSH.Roles); diff != "" {
				t.Errorf("SSH roles (-want +got):\n%s", diff)
			}
			if _, err := s.CAs["root"][0].Verify(x509.VerifyOptions{Roots: s.CAPool()}); err != nil {
				t.Errorf("the CA is not in the pool: %v", err)
			}
		})
	}
}

// Every way in which tsh, OpenSSL or people may have encoded the same key.
func TestLoadKeyEncodings(t *testing.T) {
	rsaKey := certwatchtest.RSAKey(t)
	ec, ed := certwatchtest.Keys(t)
	pkcs8 := func(key crypto.Signer) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	sec1, err := x509.MarshalECPrivateKey(ec.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, kind string
		key        crypto.Signer
		der        []byte
	}{
		{"rsa_pkcs1", "RSA PRIVATE KEY", rsaKey, x509.MarshalPKCS1PrivateKey(rsaKey)},
		{"rsa_pkcs8", "PRIVATE KEY", rsaKey, pkcs8(rsaKey)},
		{"rsa_pkcs8_mislabelled", "RSA PRIVATE KEY", rsaKey, pkcs8(rsaKey)},
		{"ecdsa_sec1", "EC PRIVATE KEY", ec, sec1},
		{"ecdsa_pkcs8", "PRIVATE KEY", ec, pkcs8(ec)},
		{"ed25519_pkcs8", "PRIVATE KEY", ed, pkcs8(ed.(ed25519.PrivateKey))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, certwatchtest.Login{TLSKey: tt.key})
			f.put("%s/alice.key", pem.EncodeToMemory(&pem.Block{Type: tt.kind, Bytes: tt.der}))
			f.age()
			p := f.load()
			if p.Session == nil || p.Problem != nil || p.Session.Cert.PrivateKey == nil {
				t.Errorf("profile = %+v, want a session with its key", p)
			}
		})
	}
}

func TestLoadWhatIsWrong(t *testing.T) {
	login := func(layout tshhome.Layout) certwatchtest.Login { return certwatchtest.Login{Layout: layout} }
	for _, tt := range []struct {
		name    string
		layout  tshhome.Layout
		do      func(*fixture)
		problem string // part of it; empty means none
		session bool
		ssh     bool
	}{
		{"nothing_v16", tshhome.V16, func(*fixture) {}, "", true, true},
		{"nothing_v17", tshhome.V17, func(*fixture) {}, "", true, true},
		{"logged_out", tshhome.V16, func(f *fixture) { f.check(f.home.Logout("proxy.test", "alice")) }, "", false, false},
		{"key_missing_v16", tshhome.V16, func(f *fixture) { f.remove("%s/alice") }, "key of the session", false, false},
		{"key_missing_v17", tshhome.V17, func(f *fixture) { f.remove("%s/alice.key") }, "key of the session", false, false},
		{"cert_missing_v16", tshhome.V16, func(f *fixture) { f.remove("%s/alice-x509.pem") }, "certificate of the session", false, false},
		{"cert_missing_v17", tshhome.V17, func(f *fixture) { f.remove("%s/alice.crt") }, "certificate of the session", false, false},
		{"cert_empty", tshhome.V17, func(f *fixture) { f.put("%s/alice.crt", nil) }, "holds no certificate", false, false},
		{"cert_half", tshhome.V17, func(f *fixture) {
			f.put("%s/alice.crt", f.creds.Cert[:len(f.creds.Cert)/2])
		}, "no complete PEM block", false, false},
		{"key_half", tshhome.V17, func(f *fixture) {
			f.put("%s/alice.key", f.creds.TLSKey[:len(f.creds.TLSKey)/2])
		}, "no PEM block is complete", false, false},
		{"key_of_another_login", tshhome.V17, func(f *fixture) {
			_, other := f.ca.Issue(t, login(tshhome.V17))
			f.put("%s/alice.key", other.TLSKey)
		}, "different logins", false, false},
		{"key_is_a_folder", tshhome.V17, func(f *fixture) {
			f.remove("%s/alice.key")
			f.check(os.Mkdir(f.path("%s/alice.key"), 0o700))
		}, "not a regular file", false, false},
		{"key_huge", tshhome.V17, func(f *fixture) {
			f.put("%s/alice.key", make([]byte, 2<<20))
		}, "larger than 1048576 bytes", false, false},
		{"keys_is_a_file", tshhome.V17, func(f *fixture) {
			f.remove("keys")
			f.put("keys", nil)
		}, "not a directory", false, false},
		{"ssh_missing", tshhome.V16, func(f *fixture) { f.remove("%s/alice-ssh") }, "", true, false},
		{"ssh_of_another_login", tshhome.V16, func(f *fixture) {
			_, other := f.ca.Issue(t, login(tshhome.V16))
			f.put("%s/alice-ssh/root-cert.pub", other.SSHCerts["root"])
		}, "different logins", true, false},
		{"ssh_key_of_another_login", tshhome.V17, func(f *fixture) {
			_, other := f.ca.Issue(t, login(tshhome.V17))
			f.put("%s/alice", other.SSHKey)
		}, "different logins", true, false},
		{"ssh_pub_missing", tshhome.V17, func(f *fixture) { f.remove("%s/alice.pub") }, "SSH public key", true, false},
		{"ssh_is_a_plain_key", tshhome.V17, func(f *fixture) {
			f.put("%s/alice-ssh/root-cert.pub", f.creds.SSHPub)
		}, "not a certificate", true, false},
		{"cas_missing", tshhome.V17, func(f *fixture) { f.remove("%s/cas", "%s/certs.pem") }, "cluster CAs", true, true},
		{"cas_half", tshhome.V17, func(f *fixture) { f.put("%s/cas/root.pem", f.ca.PEM[:100]) }, "cluster CAs", true, true},
		{"yaml_empty", tshhome.V17, func(f *fixture) { f.put("proxy.test.yaml", nil) }, "it is empty", false, false},
		{"yaml_tabs", tshhome.V17, func(f *fixture) { f.put("proxy.test.yaml", []byte("user:\n\t- x\n")) }, "yaml", false, false},
		{"yaml_no_user", tshhome.V17, func(f *fixture) {
			f.put("proxy.test.yaml", []byte("web_proxy_addr: p:443\n"))
		}, "user is missing", false, false},
		{"yaml_user_climbs", tshhome.V17, func(f *fixture) {
			f.put("proxy.test.yaml", []byte("web_proxy_addr: p:443\nuser: ../../alice\n"))
		}, "cannot be a file name", false, false},
		{"yaml_unknown_fields", tshhome.V17, func(f *fixture) {
			f.put("proxy.test.yaml", []byte("web_proxy_addr: p:443\nuser: alice\ncluster: root\nnew: {a: [1]}\nmfa_mode: [1]\n"))
		}, "", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, login(tt.layout))
			f.t = t
			tt.do(f)
			f.age()
			p := f.load()
			if (p.Session != nil) != tt.session || (p.Session != nil && p.Session.SSH != nil) != tt.ssh {
				t.Errorf("session %v, want %v with SSH %v", p.Session, tt.session, tt.ssh)
			}
			if p.Settling {
				t.Errorf("settling, although the files are old")
			}
			if got := fmt.Sprint(p.Problem); (p.Problem != nil) != (tt.problem != "") || !strings.Contains(got, tt.problem) {
				t.Errorf("problem = %v, want one with %q", p.Problem, tt.problem)
			}
			if p.Problem != nil && !strings.Contains(p.Problem.Error(), f.home.Dir) {
				t.Errorf("problem %q does not name the file", p.Problem)
			}
		})
	}
}

func TestLoadHardwareKey(t *testing.T) {
	piv := pem.EncodeToMemory(&pem.Block{Type: "PIV YUBIKEY PRIVATE KEY", Bytes: []byte(`{"serial_number":1}`)})
	for _, tt := range []struct {
		name   string
		layout tshhome.Layout
		files  []string
	}{
		{"v16", tshhome.V16, []string{"%s/alice"}},
		{"v17", tshhome.V17, []string{"%s/alice.key", "%s/alice"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, certwatchtest.Login{Layout: tt.layout})
			for _, name := range tt.files {
				f.put(name, piv)
			}
			f.age()
			p := f.load()
			if p.Session == nil || p.Problem != nil {
				t.Fatalf("profile = %+v, want a session without a problem", p)
			}
			if !errors.Is(p.Session.KeyError, certwatch.ErrHardwareKey) || p.Session.Cert.PrivateKey != nil {
				t.Errorf("key error = %v, want ErrHardwareKey and no key", p.Session.KeyError)
			}
			if p.Session.SSH == nil {
				t.Errorf("no SSH certificate")
			}
		})
	}
}

// A cert that has ended, or not begun, is a value like any other.
func TestLoadJudgesNoTimes(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	for name, bounds := range map[string][2]time.Time{
		"expired":         {now.Add(-2 * time.Hour), now.Add(-time.Hour)},
		"from_the_future": {now.Add(time.Hour), now.Add(2 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, certwatchtest.Login{NotBefore: bounds[0], NotAfter: bounds[1]})
			f.age()
			p := f.load()
			if p.Problem != nil || p.Session == nil {
				t.Fatalf("profile = %+v, want a session", p)
			}
			if !p.Session.ValidFrom.Equal(bounds[0]) || !p.Session.ValidUntil.Equal(bounds[1]) {
				t.Errorf("valid %v to %v, want %v", p.Session.ValidFrom, p.Session.ValidUntil, bounds)
			}
		})
	}
}

// After an upgrade of tsh, both layouts' files lie side by side.
func TestLoadAfterUpgrade(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name     string
		v17Until time.Time
		broken   bool // the v17 pair
		want     certwatch.Layout
	}{
		{"v17_is_newer", now.Add(2 * time.Hour), false, certwatch.LayoutV17},
		{"v16_is_newer", now.Add(time.Minute), false, certwatch.LayoutV16},
		{"v17_is_broken", now.Add(2 * time.Hour), true, certwatch.LayoutV16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, certwatchtest.Login{Layout: tshhome.V16, NotAfter: now.Add(time.Hour)})
			tlsKey, _ := certwatchtest.Keys(t)
			_, newer := f.ca.Issue(t, certwatchtest.Login{TLSKey: tlsKey, NotAfter: tt.v17Until})
			f.put("%s/alice.crt", newer.Cert)
			f.put("%s/alice.key", newer.TLSKey)
			if tt.broken {
				f.put("%s/alice.key", f.creds.TLSKey)
			}
			f.age()
			if p := f.load(); p.Session == nil || p.Session.Layout != tt.want {
				t.Errorf("session = %v (%v), want %v", p.Session, p.Problem, tt.want)
			}
		})
	}
}

func TestLoadSelectedLeaf(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{Layout: tshhome.V16})
	leafLogin := certwatchtest.Login{Layout: tshhome.V16, Cluster: "leaf"}
	leafLogin.Identity.Roles = []string{"leaf-role"}
	p, c := f.ca.Issue(t, leafLogin)
	f.check(f.home.Select(p, c))
	f.put("%s/alice", c.SSHKey) // the same key in real life
	f.age()
	got := f.load()
	if got.Session == nil || got.Session.SSH == nil {
		t.Fatalf("profile = %+v, want a session with SSH", got)
	}
	if got.Cluster != "leaf" || got.RootCluster != "root" || got.Session.SSH.RouteToCluster != "leaf" {
		t.Errorf("cluster %q of root %q, SSH for %q; want leaf, root, leaf",
			got.Cluster, got.RootCluster, got.Session.SSH.RouteToCluster)
	}
}

func TestLoadCAs(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{})
	next, leaf := certwatchtest.NewCA(t, "root"), certwatchtest.NewCA(t, "leaf")
	f.put("%s/cas/root.pem", append(append([]byte{}, f.ca.PEM...), next.PEM...)) // a rotation
	f.put("%s/cas/leaf.pem", leaf.PEM)
	f.age()
	s := f.load().Session
	if len(s.CAs["root"]) != 2 || len(s.CAs["leaf"]) != 1 {
		t.Errorf("CAs = %d root and %d leaf, want 2 and 1", len(s.CAs["root"]), len(s.CAs["leaf"]))
	}
	leafCA := s.CAs["leaf"][0]
	if _, err := leafCA.Verify(x509.VerifyOptions{Roots: s.CAPool("root")}); err == nil {
		t.Errorf("the leaf's CA is trusted in a pool of the root's")
	}

	f.remove("%s/cas") // as very old versions of tsh leave it
	f.put("%s/certs.pem", append(append([]byte{}, f.ca.PEM...), leaf.PEM...))
	f.age()
	s2 := f.load().Session
	if len(s2.CAs["root"]) != 1 || len(s2.CAs["leaf"]) != 1 {
		t.Errorf("legacy CAs = %v, want one each of root and leaf", s2.CAs)
	}
	if s.Fingerprint == s2.Fingerprint {
		t.Errorf("the fingerprint does not tell other CAs")
	}
}

// A first look at files that are just being written knows nothing yet.
func TestLoadMidWrite(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{})
	f.remove("%s/alice.crt")
	p := f.load()
	if !p.Settling || p.Session != nil || p.Problem != nil || p.ProxyAddr != certwatchtest.ProxyAddr {
		t.Errorf("profile = %+v, want it settling", p)
	}
}

func TestLoadCurrentProfile(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{})
	other, creds := f.ca.Issue(t, certwatchtest.Login{Proxy: "another.test:3080"})
	f.check(f.home.Login(other, creds))
	for current, want := range map[string][2]bool{
		"proxy.test\n":   {false, true},
		"another.test\n": {true, false},
		"nobody\n":       {false, false},
		" proxy.test ":   {false, true}, // by hand, without a newline, long ago
		"":               {false, false},
	} {
		f.put("current-profile", []byte(current))
		f.age()
		profiles, err := certwatch.Load(f.home.Dir)
		f.check(err)
		if len(profiles) != 2 || profiles[0].Name != "another.test" || profiles[1].Name != "proxy.test" {
			t.Fatalf("profiles = %+v, want another.test and proxy.test", profiles)
		}
		if got := [2]bool{profiles[0].Current, profiles[1].Current}; got != want {
			t.Errorf("current-profile %q: current = %v, want %v", current, got, want)
		}
	}
}

func TestLoadHomes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		want       string // part of the error; empty means none
	}{
		{"missing", filepath.Join(dir, "missing"), ""},
		{"empty", t.TempDir(), ""},
		{"a_file", file, "is a file, not a folder"},
		{"a_symlink_loop", loop, "too many levels of symbolic links"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			profiles, err := certwatch.Load(tt.path)
			if len(profiles) != 0 {
				t.Errorf("profiles = %v, want none", profiles)
			}
			if (err != nil) != (tt.want != "") || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %q does not name the home", err)
			}
		})
	}
}

func TestDefaultHome(t *testing.T) {
	t.Setenv("TELEPORT_HOME", filepath.Join(t.TempDir(), "elsewhere"))
	if got, err := certwatch.DefaultHome(); err != nil || got != os.Getenv("TELEPORT_HOME") {
		t.Errorf("DefaultHome = %q, %v, want $TELEPORT_HOME", got, err)
	}
	t.Setenv("TELEPORT_HOME", "")
	user, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := certwatch.DefaultHome(); err != nil || got != filepath.Join(user, ".tsh") {
		t.Errorf("DefaultHome = %q, %v, want ~/.tsh", got, err)
	}
}
