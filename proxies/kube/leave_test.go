package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/testwait"
)

// TestLeave: a stream that is open goes on, a request that is held is served, and
// only then does the tunnel's place belong to the other process.
func TestLeave(t *testing.T) {
	t.Parallel()
	for _, sharing := range []bool{true, false} {
		t.Run(fmt.Sprintf("shared_%v", sharing), func(t *testing.T) {
			more := make(chan string)
			up := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("watch") == "" {
					fmt.Fprint(w, "pods")
					return
				}
				for text := range more {
					fmt.Fprint(w, text)
					w.(http.Flusher).Flush()
				}
			}).upstream()
			login := make(chan struct{})
			cfg := Config{Hold: patienceInTests, Now: func() *Upstream { return nil }, Source: func(ctx context.Context) (*Upstream, error) {
				select {
				case <-login:
					return up, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}}
			if sharing {
				cfg.Listener = shared(t)
			}
			r := run(t, cfg)
			url := "https://" + r.addr() + "/api/v1/namespaces/default/pods"

			type answer struct {
				text string
				err  error
			}
			get := func() <-chan answer {
				got := make(chan answer, 1)
				client := kubectl(t, "prod")
				go func() {
					resp, err := client.Get(url)
					if err != nil {
						got <- answer{err: err}
						return
					}
					defer resp.Body.Close()
					text, err := io.ReadAll(resp.Body)
					got <- answer{string(text), err}
				}()
				return got
			}
			held := get()
			testwait.Eventually(t, "it is held", func() bool { return r.Status().Waiting == 1 })
			watching := make(chan *http.Response, 1)
			watcher := kubectl(t, "prod")
			go func() {
				resp, err := watcher.Get(url + "?watch=true") //nolint:bodyclose // it is closed where it is read
				if err != nil {
					t.Error(err)
				}
				watching <- resp
			}()
			testwait.Eventually(t, "both are held", func() bool { return r.Status().Waiting == 2 })

			left := make(chan struct{})
			go func() {
				defer close(left)
				if sharing {
					cfg.Listener.Leave(patienceInTests)
				}
				<-r.Leave(patienceInTests, nil)
			}()
			testwait.Eventually(t, "the port is released", func() bool { return len(r.Status().Addresses) == 0 })
			close(login)
			if a := <-held; a.text != "pods" || a.err != nil {
				t.Errorf("the held request got %q, %v", a.text, a.err)
			}
			more <- "one,"
			resp := <-watching
			if resp == nil {
				return
			}
			defer resp.Body.Close()
			select {
			case <-left:
				t.Error("the tunnel has left with a watch open")
			default:
			}
			more <- "two"
			close(more)
			if text, err := io.ReadAll(resp.Body); string(text) != "one,two" || err != nil {
				t.Errorf("the watch got %q, %v", text, err)
			}
			<-left
		})
	}
}

// TestShellsOutliveLeave: what was upgraded the listener does not wait for, and it goes
// on all the same, for as long as grace says.
func TestShellsOutliveLeave(t *testing.T) {
	t.Parallel()
	echo := newCluster(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw := switches(t, w)
		defer conn.Close()
		_, _ = io.Copy(conn, rw)
	})
	for _, sharing := range []bool{true, false} {
		for grace, other := range map[time.Duration]time.Duration{time.Hour: 0, 0: time.Hour} { // that of a stopped tunnel does not count
			t.Run(fmt.Sprintf("shared_%v_for_%v", sharing, grace), func(t *testing.T) {
				cfg := Config{Source: always(echo.upstream()), Grace: other}
				if sharing {
					cfg.Listener = shared(t)
				}
				r := run(t, cfg)
				shell := upgrade(t, r.addr(), "/exec")
				if sharing {
					cfg.Listener.Leave(grace)
				}
				<-r.Leave(grace, nil)
				stopped := make(chan struct{})
				go func() { defer close(stopped); r.stop() }()
				<-r.Released()
				if grace == 0 {
					testwait.Eventually(t, "the shell has ended", func() bool { return r.Status().Connections == 0 })
					<-stopped
					return
				}
				for range 20 {
					fmt.Fprintln(shell, "still there?")
					if line, err := shell.br.ReadString('\n'); line != "still there?\n" {
						t.Fatalf("after the tunnel has left the shell says %q, %v", line, err)
					}
				}
				shell.Close()
				<-stopped
			})
		}
	}
}

// TestLeaveLocksNothing: what is called when the port is released may ask the listener.
func TestLeaveLocksNothing(t *testing.T) {
	var l *Listener
	var calls atomic.Int32
	l = NewListener(ListenerConfig{CA: testCA, OnChange: func() {
		calls.Add(1)
		if !l.mu.TryLock() {
			t.Error("the port is released under the listener's lock")
			return
		}
		l.mu.Unlock()
	}})
	if err := l.Bind(); err != nil {
		t.Fatal(err)
	}
	bound := calls.Load()
	l.Leave(0)
	l.Leave(0)
	if n := calls.Load() - bound; n != 1 {
		t.Errorf("%d changes, want one", n)
	}
}
