package route

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/utils/pingconn"

	"berth/internal/testneeds"
	"berth/proxies"
	"berth/proxies/internal/nettest"
)

var _ proxies.Gatherer = (*stream)(nil)

// scripted is a connection whose reads are pieces that were recorded.
type scripted struct {
	net.Conn
	pieces [][]byte
}

func (c *scripted) Read(p []byte) (int, error) {
	if c.pieces == nil {
		return c.Conn.Read(p)
	}
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

// recorder records instead of writing once it is on.
type recorder struct {
	net.Conn
	on   bool
	said bytes.Buffer
}

func (c *recorder) Write(p []byte) (int, error) {
	if c.on {
		return c.said.Write(p)
	}
	return c.Conn.Write(p)
}

// record returns a stream after its handshake, and what a server wrote to it
// since, which is not delivered yet.
func record(t testing.TB, framed bool, write func(net.Conn) error) (*stream, *scripted, []byte) {
	t.Helper()
	ca := newAuthority(t, "web")
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	to := &recorder{Conn: far}
	server := tls.Server(to, &tls.Config{
		Certificates: []tls.Certificate{*ca.issue(t, proxyHost, time.Time{}, proxyHost)}, SessionTicketsDisabled: true,
	})
	done := make(chan error, 1)
	go func() { done <- server.HandshakeContext(t.Context()) }()
	from := &scripted{Conn: near}
	on := newRecords(from)
	client := tls.Client(on, &tls.Config{RootCAs: ca.pool(), ServerName: proxyHost})
	if err := errors.Join(client.HandshakeContext(t.Context()), <-done); err != nil {
		t.Fatal(err)
	}
	to.on = true
	if err := write(server); err != nil {
		t.Fatal(err)
	}
	s := newStream(client, on, framed)
	s.more = false // nothing came after the handshake
	return s, from, to.said.Bytes()
}

// sendFrame writes a frame the way Teleport does: its header is a record of its own.
func sendFrame(w io.Writer, content string) error {
	err := binary.Write(w, binary.BigEndian, uint32(len(content)))
	if err == nil && content != "" {
		_, err = io.WriteString(w, content)
	}
	return err
}

// TestGatherEverySplit cuts what comes at every byte: what is whole before the
// cut is returned before the rest comes, and nothing is lost or twice there.
func TestGatherEverySplit(t *testing.T) {
	t.Parallel()
	const want = "first" + "second, in a longer frame" + "x" + "last"
	write := func(c net.Conn) error {
		return errors.Join(
			sendFrame(c, "first"), sendFrame(c, ""), sendFrame(c, "second, in a longer frame"), sendFrame(c, ""), sendFrame(c, ""),
			writeEach(c, "\x00", "\x00\x00", "\x01x\x00", "\x00\x00\x04la", "st"), // headers need not be records
			c.(*tls.Conn).CloseWrite(),
		)
	}
	_, _, all := record(t, true, write)
	size := len(all) // the same in each recording
	for cut := range size {
		s, from, all := record(t, true, write)
		if len(all) != size {
			t.Fatalf("%d bytes are %d now", size, len(all))
		}
		from.pieces = [][]byte{all[:cut:cut], all[cut:]}
		if cut == 0 {
			from.pieces = from.pieces[1:]
		}
		var got []byte
		buf := make([]byte, 7) // smaller than some frames
		for {
			left := len(from.pieces)
			if err := s.Await(); err != nil {
				t.Fatal(err)
			}
			n, err := s.Gather(buf)
			got = append(got, buf[:n]...)
			if n == len(buf) && left-len(from.pieces) > 1 {
				t.Fatalf("cut at %d: it read on with a full buffer", cut)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("cut at %d: %v after %q", cut, err, got)
			}
		}
		if string(got) != want {
			t.Fatalf("cut at %d: got %q, want %q", cut, got, want)
		}
	}
}

func writeEach(w io.Writer, pieces ...string) error {
	for _, p := range pieces {
		if _, err := io.WriteString(w, p); err != nil {
			return err
		}
	}
	return nil
}

// TestGatherWaitsForNothing: what came whole is returned although more of the
// next record has come, and although no more comes.
func TestGatherWaitsForNothing(t *testing.T) {
	s, from, all := record(t, true, func(c net.Conn) error {
		return errors.Join(sendFrame(c, "here"), sendFrame(c, "there"))
	})
	from.pieces = [][]byte{all[:len(all)-3]} // a read more would be an end
	buf := make([]byte, 64)
	if err := s.Await(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Gather(buf); string(buf[:n]) != "here" || err != nil {
		t.Errorf("Gather = %q, %v", buf[:n], err)
	}
	if n, err := s.Gather(buf); n != 0 || err != nil {
		t.Errorf("a second Gather = %q, %v; want nothing", buf[:n], err)
	}
	from.pieces = [][]byte{all[len(all)-3:]}
	if n, err := s.Read(buf); string(buf[:n]) != "there" || err != nil {
		t.Errorf("Read = %q, %v", buf[:n], err)
	}
}

// TestStreamEnds: an end within a frame or a record is no clean end.
func TestStreamEnds(t *testing.T) {
	whole := func(c net.Conn) error { return sendFrame(c, "whole") }
	tests := []struct {
		name  string
		write func(net.Conn) error
		less  int // bytes of it that do not come
		want  error
	}{
		{"announced", func(c net.Conn) error { return errors.Join(whole(c), c.(*tls.Conn).CloseWrite()) }, 0, io.EOF},
		{"unannounced", whole, 0, io.EOF},
		{"in_a_record", whole, 2, io.ErrUnexpectedEOF},
		{"in_a_record's_header", func(c net.Conn) error { return errors.Join(whole(c), sendFrame(c, "")) }, 20, io.ErrUnexpectedEOF},
		{"in_a_frame", func(c net.Conn) error {
			return errors.Join(whole(c), writeEach(c, "\x00\x00\x00\x05ha"), c.(*tls.Conn).CloseWrite())
		}, 0, io.ErrUnexpectedEOF},
		{"in_a_frame's_header", func(c net.Conn) error {
			return errors.Join(whole(c), writeEach(c, "\x00\x00"), c.(*tls.Conn).CloseWrite())
		}, 0, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, from, all := record(t, true, tt.write)
			from.pieces = [][]byte{all[:len(all)-tt.less]}
			if _, err := io.Copy(io.Discard, gathering{s}); !same(err, tt.want) {
				t.Errorf("ends with %v, want %v", err, tt.want)
			}
		})
	}
}

// same compares with io.EOF too, which io.Copy returns as nil.
func same(got, want error) bool {
	if want == io.EOF { //nolint:errorlint // the value itself
		return got == nil
	}
	return errors.Is(got, want)
}

// gathering reads a stream as proxies does.
type gathering struct{ *stream }

func (g gathering) Read(p []byte) (int, error) {
	for {
		if err := g.Await(); err != nil {
			return 0, err
		}
		if n, err := g.Gather(p); n > 0 || err != nil {
			return n, err
		}
	}
}

// FuzzGather delivers frames and bare bytes in pieces of any size.
func FuzzGather(f *testing.F) {
	f.Add(true, uint64(1), []byte{1, 2, 3})
	f.Add(false, uint64(2), []byte{255, 0, 7})
	f.Add(true, uint64(3), []byte{})
	f.Fuzz(func(t *testing.T, framed bool, seed uint64, sizes []byte) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var want bytes.Buffer
		s, from, all := record(t, framed, func(c net.Conn) error {
			for range 1 + rnd.IntN(20) {
				n := []int{0, 1, rnd.IntN(100), 8192, rnd.IntN(40_000)}[rnd.IntN(5)]
				content := strings.Repeat(string(rune('a'+rnd.IntN(26))), n)
				want.WriteString(content)
				send := sendFrame
				if !framed {
					send = func(w io.Writer, content string) error { return writeEach(w, content) }
				}
				if err := send(c, content); err != nil {
					return err
				}
			}
			return c.(*tls.Conn).CloseWrite()
		})
		from.pieces = [][]byte{}
		for i := 0; len(all) > 0; i++ {
			n := len(all)
			if len(sizes) > 0 {
				n = min(n, 1+int(sizes[i%len(sizes)])*int(1+seed%300))
			}
			from.pieces, all = append(from.pieces, all[:n:n]), all[n:]
		}
		got, err := io.ReadAll(gathering{s})
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("got %d bytes of %d, %v", len(got), want.Len(), err)
		}
	})
}

// TestWriteIsOneRecord: what fits in a record is one, its frame's header
// included, and the api module's own reader understands all frames.
func TestWriteIsOneRecord(t *testing.T) {
	for _, n := range []int{1, 4, 16380, 16381, 64 << 10, 200_000} {
		ca := newAuthority(t, "web")
		near, far := net.Pipe()
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{*ca.issue(t, proxyHost, time.Time{}, proxyHost)}})
		got := make(chan []byte, 1)
		go func() {
			defer far.Close()
			all, _ := io.ReadAll(pingconn.NewTLS(server))
			got <- all
		}()
		writes := &countWrites{Conn: near}
		on := newRecords(writes)
		client := tls.Client(on, &tls.Config{RootCAs: ca.pool(), ServerName: proxyHost, DynamicRecordSizingDisabled: true})
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		writes.sizes = nil
		s := newStream(client, on, true)
		want := bytes.Repeat([]byte("w"), n)
		if k, err := s.Write(want); k != n || err != nil {
			t.Fatalf("Write = %d, %v", k, err)
		}
		pieces := (n + togetherMax - 1) / togetherMax
		const overhead = 22 // of a record of TLS 1.3
		if len(writes.sizes) != pieces || n <= 16380 && writes.sizes[0] != n+frameHeader+overhead {
			t.Errorf("%d bytes were sent as %v, want %d pieces", n, writes.sizes, pieces)
		}
		go func() { _, _ = io.Copy(io.Discard, near) }() // its side of the end
		_ = s.CloseWrite()
		if all := <-got; !bytes.Equal(all, want) {
			t.Errorf("%d bytes arrived of %d", len(all), n)
		}
		_ = near.Close()
	}
}

type countWrites struct {
	net.Conn
	sizes []int
}

func (c *countWrites) Write(p []byte) (int, error) {
	c.sizes = append(c.sizes, len(p))
	return c.Conn.Write(p)
}

// TestKeyUpdate: a server may change its keys at any time, and want the
// client to change its own.
func TestKeyUpdate(t *testing.T) {
	t.Parallel()
	openssl := testneeds.Program(t, "openssl")
	dir := t.TempDir()
	certFile, keyFile := dir+"/cert.pem", dir+"/key.pem"
	if out, err := exec.CommandContext(t.Context(), openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
		"-subj", "/CN="+proxyHost, "-addext", "subjectAltName=DNS:"+proxyHost, "-keyout", keyFile, "-out", certFile,
	).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	server := exec.CommandContext(t.Context(), openssl, "s_server", "-tls1_3", "-accept", addr, "-cert", certFile, "-key", keyFile,
		"-alpn", "keys", "-naccept", "1")
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	server.Stderr = server.Stdout
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Process.Kill(), server.Wait() })
	heard := bufio.NewScanner(stdout)
	await := func(want string) {
		t.Helper()
		for heard.Scan() {
			if strings.Contains(heard.Text(), want) {
				return
			}
		}
		t.Fatalf("openssl did not print %q (%v)", want, heard.Err())
	}
	await("ACCEPT")
	r := Route{ProxyAddr: addr, ServerName: proxyHost, ALPN: "keys", Insecure: true}
	conn := dialRoute(t, r)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(nettest.Patience))
	await("Secure Renegotiation") // from here on it reads its standard input
	in := gathering{conn.(*stream)}
	for i := range 5 {
		for _, line := range []string{fmt.Sprintf("line %d of the server\n", i), "K\n", "after it\n"} {
			if n, err := in.Gather(make([]byte, 64)); n != 0 || err != nil {
				t.Fatalf("before %q came %d bytes, %v", line, n, err)
			}
			if err := writeEach(stdin, line); err != nil {
				t.Fatal(err)
			}
			if line == "K\n" {
				if err := in.Await(); err != nil { // the update has come
					t.Fatal(err)
				}
				if n, err := in.Gather(make([]byte, 64)); n != 0 || err != nil {
					t.Fatalf("with the keys came %d bytes, %v", n, err)
				}
				continue
			}
			got := make([]byte, len(line))
			if _, err := io.ReadFull(in, got); err != nil || string(got) != line {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		if _, err := fmt.Fprintf(conn, "%s\n", strings.Repeat(fmt.Sprintf("answer %d ", i), 5000)); err != nil {
			t.Fatal(err)
		}
		await(fmt.Sprintf("answer %d", i))
	}
}
