package relay

import (
	"io"
	"net"
	"testing"
	"time"

	"berth/internal/testwait"
)

// echo serves connections that get back what they say, until they end.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func start(t *testing.T, cfg Config) (*Relay, net.Conn) {
	t.Helper()
	cfg.To = echo(t)
	r, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return r, c
}

func ask(t *testing.T, c net.Conn, word string) (took time.Duration) {
	t.Helper()
	began := time.Now()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(word))); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// TestDistance: a question costs a round trip, the first one another for the
// connection, and one on a connection that was made before only its own.
func TestDistance(t *testing.T) {
	const delay = 40 * time.Millisecond
	began := time.Now()
	r, c := start(t, Config{Delay: delay})
	ask(t, c, "hello")
	if took := time.Since(began); took < 4*delay {
		t.Errorf("the first answer took %v, want a round trip more than %v", took, 2*delay)
	}
	if took := ask(t, c, "again"); took < 2*delay {
		t.Errorf("the next answer took %v, want %v", took, 2*delay)
	}
	if got := r.Connections(); len(got) != 1 || got[0].Turns != 2 || got[0].Sent != 10 || got[0].Received != 10 || !got[0].Open {
		t.Errorf("counted %+v", got)
	}
}

// TestEnds: a half that ends arrives as such, and then the connection is closed.
func TestEnds(t *testing.T) {
	r, c := start(t, Config{Delay: time.Millisecond})
	if _, err := io.WriteString(c, "bye"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
		t.Errorf("got %q, %v", got, err)
	}
	testwait.Eventually(t, "the connection is closed", func() bool { return !r.Connections()[0].Open })
}

// TestCut resets what is open, while it is still on the way too.
func TestCut(t *testing.T) {
	r, c := start(t, Config{Delay: time.Hour})
	testwait.Eventually(t, "the relay has the connection", func() bool { return len(r.Connections()) == 1 })
	if n := r.Cut(); n != 1 {
		t.Errorf("cut %d connections, want 1", n)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read from a connection that was cut")
	}
	if n := r.Cut(); n != 0 {
		t.Errorf("cut %d connections again", n)
	}
}

// TestStall: a piece that stalls is late, and in its place.
func TestStall(t *testing.T) {
	const late = 50 * time.Millisecond
	_, c := start(t, Config{Stall: 1, StallFor: late})
	if took := ask(t, c, "hello"); took < 2*late {
		t.Errorf("an answer that stalls both ways took %v, want %v", took, 2*late)
	}
}

// TestNowhere: a relay that leads nowhere hangs up.
func TestNowhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	r, err := Start(Config{To: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := net.Dial("tcp", r.Addr()) // it may have hung up already
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read from nowhere")
	}
}

// TestWeather: a relay refuses, holds and delays what passes, and does so no longer.
func TestWeather(t *testing.T) {
	r, c := start(t, Config{})
	ask(t, c, "before")
	addr := r.Addr()
	for range 2 { // to refuse twice is to refuse
		if err := r.Refuse(true); err != nil {
			t.Fatal(err)
		}
	}
	if other, err := net.Dial("tcp", addr); err == nil {
		_ = other.Close()
		t.Error("a connection was accepted")
	}
	ask(t, c, "what is open stays")
	if err := r.Refuse(false); err != nil {
		t.Fatal(err)
	}
	other, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ask(t, other, "again")

	r.Hold(true)
	if _, err := io.WriteString(c, "held"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("a byte passed")
	}
	_ = c.SetReadDeadline(time.Time{})
	r.Hold(false)
	if _, err := io.ReadFull(c, make([]byte, len("held"))); err != nil {
		t.Error(err)
	}

	r.SetDelay(50 * time.Millisecond)
	if took := ask(t, c, "slow"); took < 100*time.Millisecond {
		t.Errorf("a round trip took %v", took)
	}
}
