package certwatch_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/tshhome"
)

// manyProfiles writes a home with n sessions, each at a proxy of its own.
func manyProfiles(t testing.TB, n int) (*certwatchtest.CA, tshhome.Home) {
	t.Helper()
	ca := certwatchtest.NewCA(t, "root")
	h := tshhome.Home{Dir: t.TempDir(), Layout: tshhome.V17}
	for i := range n {
		loginAt(t, ca, h, i, "access")
	}
	return ca, h
}

// loginAt writes a session at the ith proxy.
func loginAt(t testing.TB, ca *certwatchtest.CA, h tshhome.Home, i int, role string) {
	t.Helper()
	login := certwatchtest.Login{Layout: h.Layout}
	login.Identity.Roles = []string{role}
	profile, creds := ca.Issue(t, login)
	profile.WebProxyAddr = fmt.Sprintf("p%03d.example.com:443", i)
	if err := h.Login(profile, creds); err != nil {
		t.Fatal(err)
	}
}

// TestManyProfiles: of 500 profiles each is known, and a login at any of them
// is noticed.
func TestManyProfiles(t *testing.T) {
	t.Parallel()
	const n = 500
	ca, h := manyProfiles(t, n)
	w := runWatcher(t, certwatch.Config{Homes: []string{h.Dir}, Safety: time.Hour})
	all := func(v *certwatch.View) bool {
		return len(v.Profiles) == n && !slices.ContainsFunc(v.Profiles, func(p *certwatch.Profile) bool { return p.Session == nil })
	}
	await(t, w, "every session", all)
	for _, i := range []int{0, n / 2, n - 1} {
		loginAt(t, ca, h, i, "new")
		await(t, w, "a new login", func(v *certwatch.View) bool {
			return all(v) && slices.Equal(v.Profiles[i].Session.Identity.Roles, []string{"new"})
		})
	}
}

// BenchmarkManyProfiles is the first reading of a home of 500 sessions, which
// an agent's start waits for.
func BenchmarkManyProfiles(b *testing.B) {
	_, h := manyProfiles(b, 500)
	for b.Loop() {
		if profiles, err := certwatch.Load(h.Dir); err != nil || len(profiles) != 500 {
			b.Fatalf("%d profiles, %v", len(profiles), err)
		}
	}
}
