package install

import (
	"crypto"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gravitational/teleport/api/utils/keypaths"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/testwait"
	"berth/internal/tshhome"
)

func TestMain(m *testing.M) {
	// The walks sync thousands of files, which memory does at once.
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		if err := os.Setenv("TMPDIR", "/dev/shm"); err != nil {
			panic(err)
		}
	}
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// The home under test has one user with a session of role "old"; what is
// installed has role "new".
const (
	proxyName = certwatchtest.ProfileName
	userName  = "alice"
)

// noExchange is a file system that cannot exchange.
func noExchange(string, string) error { return errors.ErrUnsupported }

// fixture is a home and a staged home.
type fixture struct {
	t       testing.TB
	ca      *certwatchtest.CA
	home    tshhome.Home
	staging tshhome.Home
	oldProf tshhome.Profile
	old     tshhome.Credentials // what the home holds
	new     tshhome.Credentials // what is staged

	oldTLS, oldSSH crypto.Signer
}

// newFixture returns a home with nothing in it, and a staged login of layout.
func newFixture(t testing.TB, layout tshhome.Layout) *fixture {
	t.Helper()
	f := &fixture{t: t, ca: certwatchtest.NewCA(t, "root")}
	f.home = tshhome.Home{Dir: filepath.Join(t.TempDir(), ".tsh"), Layout: layout}
	f.staging = tshhome.Home{Dir: t.TempDir(), Layout: layout}
	f.stage(certwatchtest.Login{Layout: layout, Identity: certwatch.Identity{Roles: []string{"new"}}})
	return f
}

// withOld gives the home an old session, with certificates for resources.
func (f *fixture) withOld(layout tshhome.Layout) *fixture {
	f.t.Helper()
	f.home.Layout = layout
	f.oldTLS, f.oldSSH = certwatchtest.Keys(f.t)
	f.oldProf, f.old = f.ca.Issue(f.t, certwatchtest.Login{
		Layout: layout, Identity: certwatch.Identity{Roles: []string{"old"}}, TLSKey: f.oldTLS, SSHKey: f.oldSSH,
	})
	f.check(f.home.Login(f.oldProf, f.old))
	f.check(f.home.DBLogin(f.oldProf, f.old, "root", "pg", []byte("db cert"), []byte("db key")))
	f.check(f.home.KubeLogin(f.oldProf, f.old, "root", "k", []byte("kube cert"), []byte("kube key")))
	f.write(filepath.Join("keys", proxyName, userName+"-kube", "root", "localproxy-1-kubeconfig"), "kubeconfig")
	f.check(os.Chmod(f.home.Dir, 0o700))
	return f
}

// stage makes l what is staged.
func (f *fixture) stage(l certwatchtest.Login) {
	f.t.Helper()
	f.check(os.RemoveAll(f.staging.Dir))
	f.staging.Layout = l.Layout
	prof, creds := f.ca.Issue(f.t, l)
	f.new = creds
	f.check(f.staging.Login(prof, creds))
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// write writes a file in the home.
func (f *fixture) write(rel, content string) {
	f.t.Helper()
	path := filepath.Join(f.home.Dir, rel)
	f.check(os.MkdirAll(filepath.Dir(path), 0o700))
	f.check(os.WriteFile(path, []byte(content), 0o600))
}

// read returns a file of the home; a missing one is "<none>".
func (f *fixture) read(rel string) string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.home.Dir, rel))
	if errors.Is(err, fs.ErrNotExist) {
		return "<none>"
	}
	f.check(err)
	return string(data)
}

func (f *fixture) config() Config {
	return Config{
		Staging: f.staging.Dir, Home: f.home.Dir, ProxyHost: proxyName, User: userName,
		Logger: slog.New(slog.NewTextHandler(f.t.Output(), nil)),
	}
}

// role returns the role of the session that the home holds now, as certwatch
// reads it; it must be whole. "none" means that there is no profile or no
// session.
func (f *fixture) role() string {
	f.t.Helper()
	role, err := roleIn(f.home.Dir, proxyName)
	if err != nil {
		f.t.Fatal(err)
	}
	return role
}

func roleIn(home, name string) (string, error) {
	profiles, err := certwatch.Load(home)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(profiles, func(p *certwatch.Profile) bool { return p.Name == name })
	if i < 0 {
		return "none", nil
	}
	p := profiles[i]
	if p.Settling { // written this moment; the files tell
		s, err := readSession(keypaths.ProxyKeyDir(home, name), p.User)
		if errors.Is(err, fs.ErrNotExist) {
			return "none", nil
		}
		if err != nil {
			return "", err
		}
		return strings.Join(s.identity.Roles, ","), nil
	}
	if p.Problem != nil {
		return "", p.Problem
	}
	if p.Session == nil {
		return "none", nil
	}
	return strings.Join(p.Session.Identity.Roles, ","), nil
}

// list returns every path below dir.
func list(t testing.TB, dir string) []string {
	t.Helper()
	files, err := readFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files.paths()
}

// tidy fails the test if the home holds something of ours.
func (f *fixture) tidy() {
	f.t.Helper()
	for _, path := range list(f.t, f.home.Dir) {
		if strings.Contains(path, "berth") {
			f.t.Errorf("left behind: %s", path)
		}
	}
}

// ways are the two ways to replace a session.
var ways = map[string]func(string, string) error{"exchange": nil, "one_by_one": noExchange}

var layouts = map[string]tshhome.Layout{"v16": tshhome.V16, "v17": tshhome.V17}
