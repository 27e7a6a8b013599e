package tunnel

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/wake"
	"berth/proxies"
)

// TestExaminedWithoutACluster: where only tsh can use the session's key, the way alone
// says whether all is well, but for a way on which a person would have to touch the key.
func TestExaminedWithoutACluster(t *testing.T) {
	w := simworld.New(t, simcluster.Config{Users: []simcluster.User{{Name: "alice"}}})
	w.Login()
	answers := func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			if _, err := theirs.Read(make([]byte, 64)); err == nil {
				_, _ = theirs.Write([]byte("N"))
				_, _ = io.Copy(io.Discard, theirs)
			}
		}()
		return ours, nil
	}
	for name, c := range map[string]struct {
		policy string
		dial   proxies.Dial
		want   error
	}{
		"answers":  {"hardware_key", answers, nil},
		"hangs_up": {"hardware_key", func(context.Context) (net.Conn, error) { return nil, proxies.ErrClosedEarly }, proxies.ErrClosedEarly},
		"touch":    {"hardware_key_touch", answers, errCluster},
	} {
		t.Run(name, func(t *testing.T) {
			p := simworld.Profile(t, w.Home)
			p.Session.Cert.PrivateKey, p.Session.KeyError = nil, certwatch.ErrHardwareKey
			p.Session.Identity.PrivateKeyPolicy = c.policy
			known := sessions.New(slog.New(slog.DiscardHandler))
			known.Update(&certwatch.View{Profiles: []*certwatch.Profile{p}})
			tun := &tunnel{
				spec: state.TunnelSpec{Kind: state.KindDB, Cluster: p.Cluster},
				cur:  &credential{dial: c.dial, validUntil: time.Now().Add(time.Hour)}, status: resolution{protocol: "postgres"},
			}
			if err := (&resolver{sessions: known}).examine(t.Context(), tun, errCluster); err != c.want { //nolint:errorlint // it is that very error
				t.Errorf("found %v, want %v", err, c.want)
			}
			tun.resolver, tun.onChange, tun.dialErr = &resolver{sessions: known}, func() {}, &dialFailure{at: time.Now(), err: errCluster}
			tun.exam.asked = wake.NewSignal()
			tun.exam.reconsider(tun, true)
			if believed := tun.dialFailure() != nil; believed != (c.policy == "hardware_key") {
				t.Errorf("when reconsidered, the failure is believed: %v", believed)
			}
		})
	}
}
