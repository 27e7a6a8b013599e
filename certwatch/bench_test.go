package certwatch_test

import (
	"log/slog"
	"testing"
	"time"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/tshhome"
)

// BenchmarkLatency measures from the last byte that a login writes to the
// View that shows it.
func BenchmarkLatency(b *testing.B) {
	ca := certwatchtest.NewCA(b, "root")
	h := tshhome.Home{Dir: b.TempDir(), Layout: tshhome.V17}
	w := runWatcher(b, certwatch.Config{Homes: []string{h.Dir}, Safety: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	var total time.Duration
	for b.Loop() {
		profile, creds := ca.Issue(b, certwatchtest.Login{})
		if err := h.Login(profile, creds); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		await(b, w, "the login", func(v *certwatch.View) bool {
			return len(v.Profiles) == 1 && v.Profiles[0].Session != nil &&
				string(encodeLeaf(v.Profiles[0].Session)) == string(creds.Cert)
		})
		total += time.Since(start)
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/change")
}

// BenchmarkLoad measures one reading of a home with one v16 profile and an
// RSA key.
func BenchmarkLoad(b *testing.B) {
	ca := certwatchtest.NewCA(b, "root")
	h := tshhome.Home{Dir: b.TempDir(), Layout: tshhome.V16}
	profile, creds := ca.Issue(b, certwatchtest.Login{Layout: tshhome.V16, TLSKey: certwatchtest.RSAKey(b)})
	if err := h.Login(profile, creds); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := certwatch.Load(h.Dir); err != nil {
			b.Fatal(err)
		}
	}
}
