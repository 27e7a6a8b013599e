package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/tshhome"
)

// reissue returns certificates for the old session's keys.
func (f *fixture) reissue(layout tshhome.Layout, change func(*certwatchtest.Login)) CertsConfig {
	f.t.Helper()
	dir := filepath.Join(f.home.Dir, "keys", proxyName)
	l := certwatchtest.Login{Layout: layout, Identity: certwatch.Identity{User: userName, Roles: []string{"new"}}}
	l.TLSKey, l.SSHKey = f.oldTLS, f.oldSSH
	if change != nil {
		change(&l)
	}
	_, creds := f.ca.Issue(f.t, l)
	if _, err := readSession(dir, userName); err != nil {
		f.t.Fatal(err)
	}
	f.new = f.old
	f.new.Cert, f.new.SSHCerts = creds.Cert, creds.SSHCerts
	return CertsConfig{
		Home: f.home.Dir, ProxyHost: proxyName, User: userName, Cert: creds.Cert, SSHCerts: creds.SSHCerts,
	}
}

func TestCerts(t *testing.T) {
	t.Parallel()
	for way, swap := range ways {
		for name, layout := range layouts {
			t.Run(way+"/"+name, func(t *testing.T) {
				f := newFixture(t, layout).withOld(layout)
				cfg := f.reissue(layout, nil)
				before := list(t, f.home.Dir)
				f.check(certs(t.Context(), cfg, &disk{swap: swap}))
				if role := f.role(); role != "new" {
					t.Errorf("role = %q, want %q", role, "new")
				}
				if after := list(t, f.home.Dir); fmt.Sprint(after) != fmt.Sprint(before) {
					t.Errorf("files %v, want the same as before %v", after, before)
				}
				cfg.DropResources = true
				f.check(certs(t.Context(), cfg, &disk{swap: swap}))
				f.mustHold("new") // without resources
				if got := f.read(filepath.Join("keys", proxyName, userName+"-kube", "root", "localproxy-1-kubeconfig")); got != "kubeconfig" {
					t.Errorf("the kubeconfig of a running proxy is %q", got)
				}
			})
		}
	}
}

func TestCertsRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		login  func(*certwatchtest.Login)
		config func(*CertsConfig)
		want   error
	}{
		{"another_tls_key", func(l *certwatchtest.Login) { l.TLSKey = nil }, nil, ErrChanged},
		{"another_ssh_key", func(l *certwatchtest.Login) { l.SSHKey = nil }, nil, ErrChanged},
		{"another_user", func(l *certwatchtest.Login) { l.Identity.User = "bob" }, nil, &UserError{}},
		{"another_cluster", func(l *certwatchtest.Login) { l.Identity.TeleportCluster = "other" }, nil, nil},
		{"no_ssh_certificate", nil, func(c *CertsConfig) { c.SSHCerts = nil }, nil},
		{"rubbish", nil, func(c *CertsConfig) { c.Cert = []byte("rubbish") }, nil},
		{"user_with_a_separator", nil, func(c *CertsConfig) { c.User = "../alice" }, nil},
		{"cluster_with_a_separator", nil, func(c *CertsConfig) { c.SSHCerts["../../x"] = nil }, nil},
		{"not_logged_in", nil, func(c *CertsConfig) { c.User = "carol" }, ErrChanged},
		{"no_profile", nil, func(c *CertsConfig) { c.ProxyHost = "nowhere" }, ErrChanged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			cfg := f.reissue(tshhome.V17, tt.login)
			if tt.config != nil {
				tt.config(&cfg)
			}
			err := Certs(t.Context(), cfg)
			var user *UserError
			switch {
			case err == nil:
				t.Error("Certs = nil, want an error")
			case errors.As(tt.want, &user) && !errors.As(err, &user):
				t.Errorf("Certs = %v, want a UserError", err)
			case errors.Is(tt.want, ErrChanged) && !errors.Is(err, ErrChanged):
				t.Errorf("Certs = %v, want ErrChanged", err)
			}
			f.mustHold("old")
			f.tidy()
		})
	}
}

func TestCertsKilledAtEveryStep(t *testing.T) {
	for way, swap := range ways {
		for name, layout := range layouts {
			t.Run(way+"/"+name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, layout).withOld(layout)
				cfg := f.reissue(layout, nil)
				cfg.DropResources = true
				pristine := f.home.Dir
				for n := 0; ; n += stride() {
					cfg.Home = filepath.Join(t.TempDir(), ".tsh")
					f.home.Dir = cfg.Home
					f.check(os.CopyFS(cfg.Home, os.DirFS(pristine)))
					k := &killer{left: n}
					err := certs(t.Context(), cfg, &disk{before: k.before, swap: swap})
					if !k.dead {
						f.check(err)
						f.mustHold("new")
						break
					}
					if role, err := roleIn(cfg.Home, proxyName); swap == nil && (err != nil || role != "old" && role != "new") {
						t.Fatalf("killed after %d steps (%s): %q, %v", n, last(k.steps), role, err)
					}
					f.check(Recover(t.Context(), cfg.Home, nil))
					f.mustHold(f.role())
					f.tidy()
				}
			})
		}
	}
}
