package proxies

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"berth/internal/testwait"
)

// TestGuard: whom the guard does not let in gets no byte and no upstream, and
// is no error of the tunnel's; whom it cannot ask about has hung up.
func TestGuard(t *testing.T) {
	stranger := errors.New("a stranger")
	for _, test := range []struct {
		name  string
		guard error
		want  EventKind
	}{{"stranger", stranger, EventRefused}, {"gone", ErrClientGone, EventClosed}} {
		t.Run(test.name, func(t *testing.T) {
			events := make(chan Event, 10)
			asked := make(chan struct{}, 1)
			tun := New(Config{
				Name: "t", Hosts: []string{"127.0.0.1"},
				Source: func(context.Context) (Dial, error) {
					asked <- struct{}{}
					return nil, errors.New("nobody may ask")
				},
				Refuse:  func(net.Conn, error) { t.Error("somebody who is turned away is told why") },
				Guard:   func(net.Conn) error { return test.guard },
				OnEvent: func(e Event) { events <- e },
			})
			if err := tun.Bind(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- tun.Run(ctx) }()
			defer func() { cancel(); <-done }()
			client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", tun.Status().Addresses[0])
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := client.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("read %d bytes, %v", n, err)
			}
			if e := <-events; e.Kind != EventAccepted {
				t.Errorf("first %+v", e)
			}
			var away *TurnedAwayError
			if e := <-events; e.Kind != test.want || errors.As(e.Err, &away) != errors.Is(test.guard, stranger) {
				t.Errorf("then %+v, want %s", e, test.want)
			}
			select {
			case <-asked:
				t.Error("a credential was asked for")
			default:
			}
			// It is off the list a moment after its last event.
			testwait.Eventually(t, "the connection to be gone", func() bool { return tun.Status().Connections == 0 })
			if s := tun.Status(); s.LastError != nil {
				t.Errorf("status %+v", s)
			}
		})
	}
}
