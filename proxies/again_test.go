package proxies

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPauses: a client whose dials are refused at once is dialled for a few times a
// second, and leaves when it wants to.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pauses := NewPauses()
		n := 0
		for began := time.Now(); time.Since(began) < time.Minute; n++ {
			pause := time.Now()
			if !pauses.Wait(t.Context()) {
				t.Fatal("the wait ended with its ctx, which goes on")
			}
			if took := time.Since(pause); took > pauseMost*3/2 {
				t.Fatalf("a pause of %v; the longest is %v, and half of it more", took, pauseMost)
			}
		}
		if n < 150 || n > 400 {
			t.Errorf("%d dials in a minute", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if pauses.Wait(ctx) {
			t.Error("the wait went on although its ctx had ended")
		}
	})
}

// TestHeldClientDialsCalmly: a proxy that refuses at once does not keep a processor
// busy with the dials of one held client.
func TestHeldClientDialsCalmly(t *testing.T) {
	t.Parallel()
	const hold = time.Second
	refused := errors.New("connection refused")
	dials := 0
	r := run(t, Config{
		Source: func(context.Context) (Dial, error) {
			return func(context.Context) (net.Conn, error) {
				dials++
				return nil, refused
			}, nil
		},
		Hold:   hold,
		Again:  func(err error) bool { return errors.Is(err, refused) },
		Refuse: func(net.Conn, error) {},
	})
	began := time.Now()
	c := r.connect(t)
	defer c.Close()
	if e := r.await(t, EventRefused, 1)[0]; !errors.Is(e.Err, refused) {
		t.Errorf("refused: %+v", e)
	}
	if most := int(time.Since(began)/pauseMost)*2 + 10; dials > most {
		t.Errorf("%d dials in %v, want %d at most", dials, time.Since(began), most)
	}
	if diff := cmp.Diff(0, r.Status().Waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
}
