package simkube

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/moby/spdystream"
)

// streamType is the header that says what a stream is for.
const streamType = "streamType"

// serveStreams speaks SPDY on a connection and hands over the streams the
// client opens. The channel is closed when the connection ends.
func serveStreams(conn net.Conn, ended context.CancelFunc) (*spdystream.Connection, <-chan *spdystream.Stream, error) {
	sc, err := spdystream.NewConnection(conn, true)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	streams := make(chan *spdystream.Stream)
	go func() {
		sc.Serve(func(st *spdystream.Stream) {
			if st.SendReply(http.Header{}, false) != nil {
				return
			}
			select {
			case streams <- st:
			case <-sc.CloseChan():
			}
		})
	}()
	go func() {
		<-sc.CloseChan()
		ended()
	}()
	return sc, streams, nil
}

// spdyTerminal upgrades to SPDY and waits for the streams the client needs. A
// nil terminal means that it left before.
func spdyTerminal(
	ctx context.Context, w http.ResponseWriter, r *http.Request, o execOptions, ended context.CancelFunc,
) (*terminal, error) {
	conn, err := upgradeSPDY(w, r, "v4.channel.k8s.io")
	if err != nil || conn == nil {
		return nil, err
	}
	sc, streams, err := serveStreams(conn, ended)
	if err != nil {
		return nil, nil // it is no HTTP connection any more
	}
	wanted := map[string]bool{"error": true, "stdin": o.stdin, "stdout": o.stdout, "stderr": o.stderr && !o.tty, "resize": o.tty}
	left := 0
	for _, want := range wanted {
		if want {
			left++
		}
	}
	got := make(map[string]*spdystream.Stream)
	abort := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer abort()
	patience := time.NewTimer(streamWait)
	defer patience.Stop()
	for len(got) < left {
		select {
		case st := <-streams:
			if kind := st.Headers().Get(streamType); wanted[kind] {
				got[kind] = st
			} else {
				_ = st.Reset() // an unexpected stream
			}
		case <-patience.C:
			_ = conn.Close()
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
	return newSPDYTerminal(conn, sc, got), nil
}

func newSPDYTerminal(conn net.Conn, sc *spdystream.Connection, got map[string]*spdystream.Stream) *terminal {
	t := &terminal{
		stdin: emptyReader{}, stdout: io.Discard, stderr: io.Discard,
		abort: func() { _ = conn.Close() },
	}
	if st := got["stdin"]; st != nil {
		t.stdin = st
	}
	if st := got["stdout"]; st != nil {
		t.stdout = st
	}
	if st := got["stderr"]; st != nil {
		t.stderr = st
	}
	if st := got["resize"]; st != nil {
		t.resize = st
	}
	t.close = func() {
		for _, st := range got {
			_ = st.Reset() // until no stream is left the connection stays open
		}
		_ = sc.Close() // and then it closes by itself
	}
	t.exit = func(err error) error {
		if _, err := got["error"].Write(mustJSON(exitReport(err))); err != nil {
			return err
		}
		for _, name := range []string{"stdout", "stderr", "error"} {
			if st := got[name]; st != nil {
				_ = st.Close() // the report has been sent
			}
		}
		return nil
	}
	return t
}

// emptyReader is the stdin of a command that has none.
type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }

// refusal is the error of a port without a listener, in the kubelet's words.
func refusal(k key, port string) error {
	return fmt.Errorf("error forwarding port %s to pod %s, uid : failed to connect to localhost:%s inside namespace %q: "+
		"dial tcp4 127.0.0.1:%s: connect: connection refused", port, k.name, port, k.namespace, port)
}
