package sessions

import (
	"log/slog"
	"testing"
	"time"

	"berth/agent/cluster"
	"berth/certwatch"
	"berth/internal/testwait"
)

// TestSlowCloseDelaysNoUpdate: the connections of a session that was replaced may take
// seconds to end. Whoever waits for the next session does not wait for that; the end of
// all does.
func TestSlowCloseDelaysNoUpdate(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	release, ended := make(chan struct{}), false
	s.end = func(*cluster.Cluster) error {
		<-release
		ended = true
		return nil
	}
	p := &certwatch.Profile{ProxyAddr: "teleport.example.com:443", Session: &certwatch.Session{Fingerprint: "a"}}
	s.now.Store(&known{view: &certwatch.View{}, all: []Session{{Profile: p, Cluster: &cluster.Cluster{}}}})

	updated := make(chan struct{})
	go func() {
		s.Update(&certwatch.View{})
		close(updated)
	}()
	select {
	case <-updated:
	case <-time.After(testwait.Patience):
		t.Error("the next session waits for the end of the one before")
	}
	close(release)
	<-updated
	s.Close()
	if !ended {
		t.Error("the end of all did not wait for the connections of a session that was replaced")
	}
}
