package route

import (
	"context"
	"errors"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// TestProbe: a way is tried up to the cert, which is shown only where that is asked
// for.
func TestProbe(t *testing.T) {
	tests := []struct {
		name   string
		cfg    fakeConfig
		change func(p *fakeProxy, r *Route)
		want   error // of both probes
	}{
		{"open", fakeConfig{}, func(*fakeProxy, *Route) {}, nil},
		{"upgrade", fakeConfig{noALPN: true}, func(p *fakeProxy, r *Route) {
			r.ConnUpgrade, r.RootCAs, r.ClusterCAs = true, nil, p.cluster.pool()
		}, nil},
		{"hangs", fakeConfig{stallAfter: "accept"}, func(*fakeProxy, *Route) {}, ErrUnreachable},
		{"no_alpn", fakeConfig{noALPN: true}, func(*fakeProxy, *Route) {}, ErrUpgradeNeeded},
		{"other_alpn", fakeConfig{}, func(_ *fakeProxy, r *Route) { r.ALPN = "teleport-mysql" }, ErrUpgradeNeeded},
		{"untrusted", fakeConfig{}, func(_ *fakeProxy, r *Route) { r.RootCAs = nil }, ErrUntrusted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeProxy(t, tt.cfg)
			r := p.route(t)
			tt.change(p, &r)
			for _, show := range []bool{false, true} {
				limit := nettest.Patience
				if tt.cfg.stallAfter != "" {
					limit = 500 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				if err := (Probe{ShowCert: show}).Try(ctx, r); !errors.Is(err, tt.want) {
					t.Errorf("cert shown %v: %v, want %v", show, err, tt.want)
				}
				cancel()
				p.mu.Lock()
				shown := len(p.clients) > 0
				p.mu.Unlock()
				if shown && !show {
					t.Error("the cert was shown")
				}
			}
		})
	}
}

// TestProbeRefused: a cert that the proxy does not accept is known by what comes after
// the handshake, and only if it is shown.
func TestProbeRefused(t *testing.T) {
	t.Parallel()
	p := newFakeProxy(t, fakeConfig{})
	r := p.route(t)
	r.Cert = newAuthority(t, "other").issue(t, "mallory", r.Cert.Leaf.NotAfter)
	if err := (Probe{}).Try(t.Context(), r); err != nil {
		t.Errorf("not shown: %v", err)
	}
	// A busy machine may bring the refusal after the time that it is waited for.
	testwait.Eventually(t, "the refusal", func() bool {
		return errors.Is(Probe{ShowCert: true}.Try(t.Context(), r), ErrHandshake)
	})
}
