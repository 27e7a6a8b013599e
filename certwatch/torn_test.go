package certwatch_test

import (
	"crypto"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/testwait"
	"berth/internal/tshhome"
)

// A generation is one login or reissue that the writer writes.
type generation struct {
	profile tshhome.Profile
	creds   tshhome.Credentials
	newKey  bool
}

// generations issues n logins in turn with new keys and with the last ones.
// Each is distinguished by its role "gen-N", in both certificates.
func generations(t *testing.T, layout tshhome.Layout, n int) []generation {
	t.Helper()
	ca := certwatchtest.NewCA(t, "root")
	end := time.Now().Add(time.Hour)
	gens := make([]generation, n)
	var tlsKey, sshKey crypto.Signer
	for i := range gens {
		gens[i].newKey = i%2 == 0
		login := certwatchtest.Login{Layout: layout, NotAfter: end}
		login.Identity.Roles = []string{fmt.Sprintf("gen-%d", i)}
		if !gens[i].newKey {
			login.TLSKey, login.SSHKey = tlsKey, sshKey
		} else {
			login.TLSKey, login.SSHKey = certwatchtest.Keys(t)
		}
		tlsKey, sshKey = login.TLSKey, login.SSHKey
		gens[i].profile, gens[i].creds = ca.Issue(t, login)
	}
	return gens
}

// checkWhole returns an error unless the view shows one generation, wholly,
// and returns which.
func checkWhole(view *certwatch.View) (int, error) {
	if len(view.HomeProblems) > 0 {
		return 0, fmt.Errorf("home problem: %w", view.HomeProblems[0].Err)
	}
	if len(view.Profiles) != 1 {
		return 0, fmt.Errorf("%d profiles, want 1", len(view.Profiles))
	}
	p := view.Profiles[0]
	switch {
	case p.Problem != nil:
		return 0, fmt.Errorf("problem: %w", p.Problem)
	case p.Settling:
		return 0, fmt.Errorf("settling")
	case p.Session == nil:
		return 0, fmt.Errorf("logged out")
	case p.Session.SSH == nil:
		return 0, fmt.Errorf("no SSH certificate")
	case !p.Current:
		return 0, fmt.Errorf("not the current profile")
	case p.ProxyAddr != certwatchtest.ProxyAddr || p.Cluster != "root" || p.RootCluster != "root":
		return 0, fmt.Errorf("profile %q %q %q", p.ProxyAddr, p.Cluster, p.RootCluster)
	case len(p.Session.CAs["root"]) != 1:
		return 0, fmt.Errorf("%d CAs, want 1", len(p.Session.CAs["root"]))
	case !slices.Equal(p.Session.Identity.Roles, p.Session.SSH.Roles):
		return 0, fmt.Errorf("X.509 is %v, SSH is %v", p.Session.Identity.Roles, p.Session.SSH.Roles)
	}
	public := p.Session.Cert.PrivateKey.(crypto.Signer).Public()
	if !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(p.Session.Cert.Leaf.PublicKey) {
		return 0, fmt.Errorf("the key is not the certificate's")
	}
	var gen int
	if _, err := fmt.Sscanf(strings.Join(p.Session.Identity.Roles, ","), "gen-%d", &gen); err != nil {
		return 0, fmt.Errorf("roles %v: %w", p.Session.Identity.Roles, err)
	}
	return gen, nil
}

// writers are the manners of writing that the watcher must stand.
var writers = []struct {
	name   string
	layout tshhome.Layout
	rename bool
	times  int
}{
	{"v16_in_place", tshhome.V16, false, 300},
	{"v17_in_place", tshhome.V17, false, 300},
	{"v16_rename", tshhome.V16, true, 100},
	{"v17_rename", tshhome.V17, true, 100},
}

// restless makes h stop now and then before and in the middle of files.
func restless(h tshhome.Home) tshhome.Home {
	rest := func() {
		switch rand.IntN(12) {
		case 0:
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		case 1, 2:
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		}
	}
	h.Before = func(string) error { rest(); return nil }
	h.Torn = func(string) { rest() }
	return h
}

// write writes the generation as tsh would.
func (g generation) write(h tshhome.Home) error {
	if g.newKey {
		return h.Login(g.profile, g.creds)
	}
	return h.Reissue(g.profile, g.creds)
}

// TestNeverTorn rewrites a home hundreds of times in each manner while a Watcher that
// hardly debounces runs: it must only ever show whole generations.
func TestNeverTorn(t *testing.T) {
	for _, tt := range writers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := tt.times
			if testing.Short() {
				n = 40
			}
			gens := generations(t, tt.layout, n)
			h := tshhome.Home{Dir: t.TempDir(), Layout: tt.layout, Rename: tt.rename}
			if err := gens[0].write(h); err != nil {
				t.Fatal(err)
			}
			atRest(t, h.Dir) // so is what is read first
			w := runWatcher(t, certwatch.Config{
				Homes: []string{h.Dir}, Debounce: 3 * time.Millisecond, MaxDebounce: 20 * time.Millisecond,
				Patience: testwait.Patience, GonePatience: testwait.Patience, // a busy machine stops a writer anywhere
			})
			changed, cancel := w.Subscribe()
			defer cancel()

			done := make(chan error, 1)
			var writing sync.WaitGroup
			writing.Go(func() {
				restless := restless(h)
				for _, g := range gens[1:] {
					if err := g.write(restless); err != nil || t.Context().Err() != nil {
						done <- err
						return
					}
					time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
				}
				done <- nil
			})
			// The last generation can be seen before the last of its files is
			// written, and the home is removed with the test.
			t.Cleanup(writing.Wait)

			last, shown := 0, 0
			deadline := time.NewTimer(testwait.Patience) // for another one
			defer deadline.Stop()
			for last < n-1 {
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
				case <-changed:
				case <-deadline.C:
					t.Fatalf("generation %d is shown, %d was written", last, n-1)
				}
				gen, err := checkWhole(w.View())
				if err != nil {
					t.Fatalf("after generation %d: %v%s", last, err, listing(h.Dir))
				}
				if gen < last {
					t.Fatalf("generation %d is shown after %d", gen, last)
				}
				if gen > last {
					shown++
					deadline.Reset(testwait.Patience)
				}
				last = gen
			}
			t.Logf("%d of %d generations were shown", shown, n)
			if shown < n/20 {
				t.Errorf("only %d of %d generations were shown", shown, n)
			}
		})
	}
}

// listing describes the files of a home, for a failed test's message.
func listing(dir string) string {
	var b strings.Builder
	_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintf(&b, "\n%s %6d %s", info.ModTime().Format("05.000000"), info.Size(), path)
		}
		return nil
	})
	return b.String()
}

// An SSH public key that is not the certificate's must never be shown either,
// so the helper's own certificates are checked once.
func TestIssuedKeysMatch(t *testing.T) {
	for _, tt := range writers {
		g := generations(t, tt.layout, 1)[0]
		pub, _, _, _, err := ssh.ParseAuthorizedKey(g.creds.SSHPub)
		if err != nil {
			t.Fatal(err)
		}
		cert, _, _, _, err := ssh.ParseAuthorizedKey(g.creds.SSHCerts["root"])
		if err != nil {
			t.Fatal(err)
		}
		if got := cert.(*ssh.Certificate).Key.Marshal(); string(got) != string(pub.Marshal()) {
			t.Errorf("%s: the SSH certificate is for another key", tt.name)
		}
	}
}
