package tshhome

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gravitational/teleport/api/profile"
	"github.com/gravitational/teleport/api/utils/keypaths"
	"github.com/gravitational/teleport/api/utils/keys"

	"berth/internal/testneeds"
)

var testProfile = Profile{
	WebProxyAddr: "proxy.test:443", User: "alice", Cluster: "root", TLSRoutingEnabled: true,
}

func testCredentials(t *testing.T, layout Layout) Credentials {
	t.Helper()
	tlsKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, sshKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := Credentials{
		Cert:       []byte("the cert\n"),
		SSHCerts:   map[string][]byte{"root": []byte("ssh cert\n")},
		CAs:        map[string][]byte{"root": []byte("ca 1\n"), "leaf": []byte("ca 2\n")},
		KnownHosts: []byte("known\n"),
	}
	if err := c.SetKeys(layout, tlsKey, sshKey); err != nil {
		t.Fatal(err)
	}
	return c
}

// record makes h note the files it touches, relative to its folder.
func record(h *Home) *[]string {
	var paths []string
	h.Before = func(path string) error {
		rel, err := filepath.Rel(h.Dir, path)
		paths = append(paths, filepath.ToSlash(rel))
		return err
	}
	return &paths
}

var (
	loginCAs = []string{
		"keys/proxy.test/cas/leaf.pem", "keys/proxy.test/cas/root.pem",
		"keys/proxy.test/certs.pem", "known_hosts",
	}
	keysV16 = []string{
		"keys/proxy.test/alice", "keys/proxy.test/alice.pub", "keys/proxy.test/alice-x509.pem",
		"keys/proxy.test/alice-ssh/root-cert.pub",
	}
	keysV17 = []string{
		"keys/proxy.test/alice.key", "keys/proxy.test/alice.crt",
		"keys/proxy.test/alice", "keys/proxy.test/alice.pub",
		"keys/proxy.test/alice-ssh/root-cert.pub",
	}
	profileFiles = []string{"proxy.test.yaml", "current-profile"}
)

func join(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layout Layout
		act    func(h Home, c Credentials) error
		want   []string
	}{
		{"first_login_v16", V16, func(h Home, c Credentials) error {
			if err := os.RemoveAll(h.Dir); err != nil {
				return err
			}
			return h.Login(testProfile, c)
		}, join(keysV16, loginCAs, loginCAs, profileFiles)},
		{"first_login_v17", V17, func(h Home, c Credentials) error {
			if err := os.RemoveAll(h.Dir); err != nil {
				return err
			}
			return h.Login(testProfile, c)
		}, join(keysV17, loginCAs, loginCAs, profileFiles)},
		{"login_over_expired_v16", V16, func(h Home, c Credentials) error {
			return h.Login(testProfile, c)
		}, join(keysV16[:3], keysV16[3:], keysV16, loginCAs, loginCAs, profileFiles)},
		{"reissue_v17", V17, func(h Home, c Credentials) error {
			return h.Reissue(testProfile, c)
		}, join(keysV17[4:], keysV17, loginCAs, loginCAs, profileFiles)},
		{"select_leaf_v16", V16, func(h Home, c Credentials) error {
			c.SSHCerts = map[string][]byte{"leaf": []byte("leaf cert\n")}
			return h.Select(testProfile, c)
		}, join(keysV16[:3], []string{"keys/proxy.test/alice-ssh/leaf-cert.pub"}, loginCAs, loginCAs, profileFiles)},
		{"touch", V16, func(h Home, _ Credentials) error { return h.Touch(testProfile) }, profileFiles},
		{"db_login_v16", V16, func(h Home, c Credentials) error {
			return h.DBLogin(testProfile, c, "root", "pg", []byte("db"), nil)
		}, join(keysV16, []string{"keys/proxy.test/alice-db/root/pg-x509.pem"}, loginCAs)},
		{"db_login_v17", V17, func(h Home, c Credentials) error {
			return h.DBLogin(testProfile, c, "root", "pg", []byte("db"), []byte("key"))
		}, join(keysV17, []string{
			"keys/proxy.test/alice-db/root/pg.key", "keys/proxy.test/alice-db/root/pg.crt",
		}, loginCAs)},
		{"kube_login_v17", V17, func(h Home, c Credentials) error {
			return h.KubeLogin(testProfile, c, "root", "k", []byte("kube"), []byte("key"))
		}, join(keysV17, []string{"keys/proxy.test/alice-kube/root/k.cred"}, loginCAs)},
		{"logout_v16", V16, func(h Home, _ Credentials) error {
			return h.Logout("proxy.test", "alice")
		}, keysV16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Home{Dir: t.TempDir(), Layout: tt.layout, CAsAgain: func() {}}
			c := testCredentials(t, tt.layout)
			if err := h.Login(testProfile, c); err != nil {
				t.Fatal(err)
			}
			touched := record(&h)
			if err := tt.act(h, c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, *touched); diff != "" {
				t.Errorf("files touched (-want +got):\n%s", diff)
			}
		})
	}
}

func TestModes(t *testing.T) {
	testneeds.Unix(t, "Windows has no file modes")
	h := Home{Dir: filepath.Join(t.TempDir(), ".tsh"), Layout: V17}
	if err := h.Login(testProfile, testCredentials(t, V17)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		"": fs.ModeDir | 0o700, "keys/proxy.test/alice-ssh": fs.ModeDir | 0o700,
		"keys/proxy.test/alice.key": 0o600, "keys/proxy.test/alice-ssh/root-cert.pub": 0o600,
		"known_hosts": 0o600,
	} {
		info, err := os.Stat(filepath.Join(h.Dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %q = %v, want %v", path, info.Mode(), want)
		}
	}
}

func TestKilledHalfway(t *testing.T) {
	h := Home{Dir: t.TempDir(), Layout: V16}
	killed := errors.New("killed")
	h.Before = func(path string) error {
		if strings.HasSuffix(path, "-x509.pem") {
			return killed
		}
		return nil
	}
	if err := h.Login(testProfile, testCredentials(t, V16)); !errors.Is(err, killed) {
		t.Fatalf("Login = %v, want it killed", err)
	}
	keysDir := filepath.Join(h.Dir, "keys", "proxy.test")
	if _, err := os.Stat(filepath.Join(keysDir, "alice.pub")); err != nil {
		t.Errorf("the file before is missing: %v", err)
	}
	if _, err := os.Stat(filepath.Join(keysDir, "alice-x509.pem")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of the file never written = %v, want not found", err)
	}
}

func TestTornShowsHalfTheFile(t *testing.T) {
	h := Home{Dir: t.TempDir(), Layout: V16}
	c := testCredentials(t, V16)
	var half, keyFile []byte
	h.Torn = func(path string) {
		if filepath.Base(path) == "alice" {
			half, _ = os.ReadFile(path) // an error shows as no bytes
		}
	}
	if err := h.Login(testProfile, c); err != nil {
		t.Fatal(err)
	}
	if len(half) == 0 || len(half) >= len(c.TLSKey) || !bytes.HasPrefix(c.TLSKey, half) {
		t.Errorf("read %d bytes of %d in the middle, want about half", len(half), len(c.TLSKey))
	}
	keyFile, err := os.ReadFile(filepath.Join(h.Dir, "keys", "proxy.test", "alice"))
	if err != nil || !bytes.Equal(keyFile, c.TLSKey) {
		t.Errorf("the key at the end has %d bytes (%v), want %d", len(keyFile), err, len(c.TLSKey))
	}
}

// The API's own loader, made for the v17 layout, must be able to read a home.
func TestProfileLoadsWithTheAPI(t *testing.T) {
	h := Home{Dir: t.TempDir(), Layout: V17, Rename: true}
	c := testCredentials(t, V17)
	if err := h.Login(testProfile, c); err != nil {
		t.Fatal(err)
	}
	p, err := profile.FromDir(h.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := os.ReadFile(keypaths.ProfileFilePath(h.Dir, p.Name()))
	if err != nil || !strings.Contains(string(yaml), "private_key_policy: \"\"\n") { // tsh's word for the default
		t.Errorf("profile file %q, %v", yaml, err)
	}
	if p.WebProxyAddr != testProfile.WebProxyAddr || p.Username != "alice" || !p.TLSRoutingEnabled {
		t.Errorf("profile = %+v, want %+v", p, testProfile)
	}
	if _, err := keys.LoadKeyPair(p.UserSSHKeyPath(), keypaths.PublicKeyPath(h.Dir, p.Name(), p.Username), nil); err != nil {
		t.Errorf("load the SSH key pair: %v", err)
	}
	if _, err := keys.LoadPrivateKey(p.UserTLSKeyPath()); err != nil {
		t.Errorf("load the TLS key: %v", err)
	}
}

func TestLogoutAllLeavesForeignFolders(t *testing.T) {
	h := Home{Dir: t.TempDir(), Layout: V17}
	if err := h.Login(testProfile, testCredentials(t, V17)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(h.Dir, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.LogoutAll(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "config" {
		t.Errorf("left behind: %v, want only config", entries)
	}
	if err := h.LogoutAll(); err != nil {
		t.Errorf("a second LogoutAll = %v, want nil", err)
	}
}

func TestDBLogout(t *testing.T) {
	for name, layout := range map[string]Layout{"v16": V16, "v17": V17} {
		t.Run(name, func(t *testing.T) {
			h := Home{Dir: t.TempDir(), Layout: layout}
			c := testCredentials(t, layout)
			if err := h.DBLogin(testProfile, c, "root", "pg", []byte("db"), []byte("key")); err != nil {
				t.Fatal(err)
			}
			if err := h.DBLogout(testProfile, "root", "pg"); err != nil {
				t.Fatal(err)
			}
			left, err := filepath.Glob(filepath.Join(filepath.Dir(h.DBCertPath(testProfile, "root", "pg")), "*"))
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %v (%v), want nothing", left, err)
			}
		})
	}
}
