package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/testneeds"
	"berth/internal/tshhome"
)

var errKilled = errors.New("killed")

// killer is a disk that makes n changes and then no more, as if the process
// had been killed.
type killer struct {
	left  int
	steps []string
	dead  bool
}

func (k *killer) before(step string) error {
	if k.dead = k.dead || k.left == 0; k.dead {
		return errKilled
	}
	k.left--
	k.steps = append(k.steps, step)
	return nil
}

// stride is by how many steps a walk goes on: all are walked but in short tests and
// under the race detector, to which a single goroutine shows nothing.
func stride() int {
	if testing.Short() || testneeds.Race {
		return 5
	}
	return 1
}

// copyHome copies the home that the walk starts from.
func copyHome(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// A killed installation must leave a home that holds exactly the old session
// or exactly the new one: at once where folders can be exchanged, else after
// Recover. And Recover must leave nothing else behind, killed or not.
func TestKilledAtEveryStep(t *testing.T) {
	for way, swap := range ways {
		for oldName, oldLayout := range layouts {
			for newName, newLayout := range layouts {
				t.Run(fmt.Sprintf("%s/%s_to_%s", way, oldName, newName), func(t *testing.T) {
					t.Parallel()
					f := newFixture(t, newLayout).withOld(oldLayout)
					walk(t, f, "old", swap, swap == nil)
				})
			}
		}
		t.Run(way+"/first_login", func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, layouts["v17"])
			f.check(os.MkdirAll(f.home.Dir, 0o700))
			walk(t, f, "none", swap, true)
		})
	}
}

// walk kills the installation before each of its changes.
func walk(t *testing.T, f *fixture, old string, swap func(string, string) error, atOnce bool) {
	pristine := f.home.Dir
	seen := map[string]int{}
	for n := 0; ; n += stride() {
		f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
		copyHome(t, pristine, f.home.Dir)
		k := &killer{left: n}
		err := login(t.Context(), f.config(), &disk{before: k.before, swap: swap})
		where := fmt.Sprintf("killed after %d steps (%s)", n, last(k.steps))
		if !k.dead {
			f.check(err)
			f.mustHold("new")
			f.tidy()
			break
		}
		if role, err := roleIn(f.home.Dir, proxyName); atOnce && (err != nil || role != old && role != "new") {
			t.Fatalf("%s: the home holds %q, %v; want %q or %q", where, role, err, old, "new")
		}
		f.check(recoverWith(t.Context(), &disk{}, f.home.Dir, nil))
		role := f.role()
		if role != old && role != "new" {
			t.Fatalf("%s: after Recover the home holds %q, want %q or %q", where, role, old, "new")
		}
		seen[role]++
		f.mustHold(role)
		f.tidy()
		before := list(t, f.home.Dir)
		f.check(recoverWith(t.Context(), &disk{}, f.home.Dir, nil))
		if after := list(t, f.home.Dir); strings.Join(before, "\n") != strings.Join(after, "\n") {
			t.Fatalf("%s: a second Recover changed the home", where)
		}
	}
	if seen[old] == 0 || seen["new"] == 0 {
		t.Errorf("walked %v; want some ends with the old and some with the new session", seen)
	}
	t.Logf("%v", seen)
}

func last(steps []string) string {
	if len(steps) == 0 {
		return "none"
	}
	return steps[len(steps)-1]
}

// mustHold checks the files of the session with the role, byte by byte.
func (f *fixture) mustHold(role string) {
	f.t.Helper()
	want := f.new
	resources := "<none>"
	switch role {
	case "none":
		return
	case "old":
		want, resources = f.old, "kube cert"
	}
	keys := filepath.Join("keys", proxyName)
	for suffix, content := range map[string]string{
		"": string(want.SSHKey), pubSuffix: string(want.SSHPub),
		filepath.Join(sshSuffix, "root"+sshCertTail): string(want.SSHCerts["root"]),
	} {
		if got := f.read(filepath.Join(keys, userName+suffix)); got != content {
			f.t.Errorf("%s: %q is not the session's", role, userName+suffix)
		}
	}
	if got := f.read(filepath.Join(keys, userName+"-kube", "root", "k-x509.pem")) +
		f.read(filepath.Join(keys, userName+"-kube", "root", "k.cred")); strings.Contains(got, "kube cert") != (resources != "<none>") {
		f.t.Errorf("%s: the certificate for a resource is %q", role, got)
	}
	if got := f.read(proxyName + ".yaml"); !strings.Contains(got, "user: alice") {
		f.t.Errorf("%s: the profile is %q", role, got)
	}
	if got := f.read("current-profile"); got != proxyName+"\n" {
		f.t.Errorf("%s: the current profile is %q", role, got)
	}
}

// Selecting another cluster than before leaves, at every instant, a profile
// whose cluster has an SSH certificate.
func TestLeafKilledAtEveryStep(t *testing.T) {
	for _, tt := range []struct {
		name             string
		oldLeaf, newLeaf bool
	}{{"root_to_leaf", false, true}, {"leaf_to_root", true, false}, {"leaf_to_leaf", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			leaf := func(h tshhome.Home, role string, l certwatchtest.Login) {
				l.Layout, l.Cluster, l.Identity = tshhome.V17, "leaf", certwatch.Identity{Roles: []string{role}}
				prof, creds := f.ca.Issue(t, l)
				f.check(h.Select(prof, creds))
			}
			if tt.oldLeaf {
				leaf(f.home, "old", certwatchtest.Login{TLSKey: f.oldTLS, SSHKey: f.oldSSH})
			}
			if tt.newLeaf {
				var l certwatchtest.Login
				l.TLSKey, l.SSHKey = certwatchtest.Keys(t)
				l.Layout, l.Identity = tshhome.V17, certwatch.Identity{Roles: []string{"new"}}
				f.stage(l)
				leaf(f.staging, "new", l)
			}
			pristine := f.home.Dir
			for n := 0; ; n += stride() {
				f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
				copyHome(t, pristine, f.home.Dir)
				k := &killer{left: n}
				err := login(t.Context(), f.config(), &disk{before: k.before})
				for _, when := range []string{"at once", "recovered"} {
					profile, yamlErr := parseYAML([]byte(f.read(proxyName + ".yaml")))
					s, err := readSession(filepath.Join(f.home.Dir, "keys", proxyName), userName)
					if yamlErr != nil || err != nil || s.sshCerts[profile.Cluster] == nil {
						t.Fatalf("killed after %d steps (%s), %s: cluster %q has no certificate: %v", n, last(k.steps), when, profile.Cluster, err)
					}
					f.check(Recover(t.Context(), f.home.Dir, nil))
				}
				want := map[string]bool{"old": tt.oldLeaf, "new": tt.newLeaf}[f.role()]
				if got := strings.Contains(f.read(proxyName+".yaml"), "cluster: leaf"); got != want {
					t.Fatalf("killed after %d steps (%s): leaf selected = %v with the %s session", n, last(k.steps), got, f.role())
				}
				if !k.dead {
					f.check(err)
					f.tidy()
					break
				}
			}
		})
	}
}
