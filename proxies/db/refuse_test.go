package db

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testwait"
	"berth/internal/wake"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	refuseTimeout, speaksFirst = time.Minute, 5*time.Second // only in a bubble does a test wait for the end of the first
	testwait.NoLeaks(m)
}

// waiting is a refusal as the agent makes them.
var waiting = Refusal{
	Title: `tunnel "prod-pg" waits for a login`,
	Text:  "The session of alice at teleport.example.com ended at 14:02, 25 min ago.",
	Hint:  "berth login teleport.example.com",
	Kind:  RefusalLogin,
}

var kinds = map[RefusalKind]string{
	RefusalOther: "other", RefusalLogin: "login", RefusalHoldEnded: "hold_ended", RefusalDenied: "denied",
	RefusalMFA: "mfa", RefusalUnreachable: "unreachable", RefusalUnknown: "unknown",
}

// fakeClient has said all it will ever say. It records the answer.
type fakeClient struct {
	net.Conn // nil: whatever else is called panics
	say      io.Reader
	heard    bytes.Buffer
	deadline time.Time
}

func (c *fakeClient) Read(p []byte) (int, error)    { return c.say.Read(p) }
func (c *fakeClient) Write(p []byte) (int, error)   { return c.heard.Write(p) }
func (c *fakeClient) SetDeadline(t time.Time) error { c.deadline = t; return nil }

// refuseSaid refuses a client that has said all of said.
func refuseSaid(t testing.TB, protocol string, said io.Reader, r Refusal) (heard string, err error) {
	t.Helper()
	p, ok := Lookup(protocol)
	if !ok {
		t.Fatalf("no protocol %q", protocol)
	}
	c := &fakeClient{say: said}
	err = p.Refuse(c, r)
	if p.refuse != nil && c.deadline.IsZero() {
		t.Errorf("%s: refused without a deadline", protocol)
	}
	return c.heard.String(), err
}

// opening is what one client says first.
type opening struct{ protocol, client, said string }

func (o opening) String() string { return o.protocol + "_" + o.client }

func openings(t testing.TB) []opening {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "openings.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all []opening
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
		said, err := strconv.Unquote(fields[2])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, opening{fields[0], fields[1], said})
	}
	return all
}

// golden compares got with a file, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestRefuseEveryKind writes down the answer to every opening. What is in the
// file was shown to the clients named there, and to others of their kind.
func TestRefuseEveryKind(t *testing.T) {
	var b strings.Builder
	told := map[string]bool{}
	for _, o := range openings(t) {
		told[o.protocol] = true
		var names []string
		var last string
		for kind := RefusalOther; kind <= RefusalUnknown; kind++ {
			r := Refusal{Title: "Title", Text: "Text", Hint: "hint", Kind: kind}
			heard, err := refuseSaid(t, o.protocol, strings.NewReader(o.said), r)
			answer := fmt.Sprintf("%q %v", heard, err)
			if answer != last && last != "" {
				fmt.Fprintf(&b, "%v %s: %s\n", o, strings.Join(names, ","), last)
				names = nil
			}
			names, last = append(names, kinds[kind]), answer
		}
		fmt.Fprintf(&b, "%v %s: %s\n", o, strings.Join(names, ","), last)
	}
	golden(t, "refusals.golden", b.String())
	for _, name := range refuserNames() {
		if !told[name] {
			t.Errorf("%s is in no opening", name)
		}
	}
}

// TestRefuseSlowly checks that clients may take their time over every byte.
func TestRefuseSlowly(t *testing.T) {
	for _, o := range openings(t) {
		t.Run(o.String(), func(t *testing.T) {
			want, err := refuseSaid(t, o.protocol, strings.NewReader(o.said), waiting)
			if err != nil {
				t.Fatal(err)
			}
			got, err := refuseSaid(t, o.protocol, &oneByte{strings.NewReader(o.said)}, waiting)
			// Redis answers what it has got; how much that is depends on time.
			if err != nil || got != want && o.protocol != "redis" || got == "" && o.client != "cancel" {
				t.Errorf("byte by byte: %q, %v, want %q", got, err, want)
			}
		})
	}
}

// oneByte returns one byte at a time.
type oneByte struct{ r io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

// TestRefuseHangUp checks clients that hang up anywhere in their opening.
func TestRefuseHangUp(t *testing.T) {
	for _, o := range openings(t) {
		for n := range len(o.said) {
			heard, err := refuseSaid(t, o.protocol, strings.NewReader(o.said[:n]), waiting)
			told := strings.Contains(strings.ReplaceAll(heard, "\x00", ""), waiting.Hint) // UTF-16 too
			if err == nil && !told && o.client != "cancel" && o.client != "head" {
				t.Errorf("%v after %d bytes: no error, answer %q", o, n, heard)
			}
		}
	}
}

func TestRefuseGarbage(t *testing.T) {
	tests := []struct{ name, said string }{
		{"tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\xaa", 512)},
		{"ssh", "SSH-2.0-OpenSSH_9.2\r\n"},
		{"zeros", strings.Repeat("\x00", 4096)},
		{"ones", strings.Repeat("\xff", 4096)},
		{"endless_redis_array", "*9223372036854775807\r\n"},
		{"endless_redis_bulk", "*2\r\n$9223372036854775807\r\n"},
		{"negative_redis_bulk", "*2\r\n$-5\r\nx"},
		{"long_redis_name", "*1\r\n$65\r\n" + strings.Repeat("x", 65) + "\r\n"},
		{"endless_redis_line", strings.Repeat("x", 1<<20)},
		{"short_tds_packet", "\x12\x01\x00\x07\x00\x00\x01\x00"},
		{"short_tds_login", "\x10\x01\x00\x0a\x00\x00\x01\x00ab"},
		{"two_tds_prelogins", strings.Repeat("\x12\x01\x00\x08\x00\x00\x01\x00", 3)},
		{"two_cql_options", strings.Repeat("\x04\x00\x00\x01\x05\x00\x00\x00\x00", 3)},
		{"short_mongo", "\x0f\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00"},
		{"long_mongo", "\xff\xff\xff\x7f\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00"},
		{"short_postgres", "\x00\x00\x00\x07\x00\x03\x00\x00"},
		{"long_postgres", "\x00\x00\x27\x11\x00\x03\x00\x00"},
	}
	for _, tt := range tests {
		for _, name := range refuserNames() {
			if name == "mysql" || name == "mariadb" {
				continue // the server speaks first, and says all it will
			}
			t.Run(tt.name+"_"+name, func(t *testing.T) {
				heard, err := refuseSaid(t, name, strings.NewReader(tt.said), waiting)
				switch {
				case name == "redis" && slices.Contains([]string{"ssh", "endless_redis_array", "endless_redis_bulk"}, tt.name),
					name == "clickhouse" && slices.Contains([]string{"zeros", "short_postgres", "long_postgres"}, tt.name):
					// Garbage that begins like the protocol.
				case err == nil:
					t.Errorf("Refuse() = nil, answer %q", heard)
				}
			})
		}
	}
}

// TestRefuseSilent checks that Refuse ends by itself, whatever a client does
// not do.
func TestRefuseSilent(t *testing.T) {
	tests := []struct {
		name   string
		behave func(client net.Conn)
		check  func(error) bool
	}{
		{"says_nothing", func(net.Conn) {}, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		{"never_reads", func(c net.Conn) {
			_, _ = io.WriteString(c, strings.Repeat("\x00\x00\x00\x08\x04\xd2\x16/", 8))
		}, func(err error) bool { return err != nil }},
		{"dribbles", func(c net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, c) }()
			for wake.Sleep(context.Background(), 100*time.Millisecond) { // a bubble has contexts of its own
				if _, err := c.Write([]byte(" ")); err != nil {
					return
				}
			}
		}, func(error) bool { return true }},
	}
	for _, tt := range tests {
		for _, name := range refuserNames() {
			t.Run(tt.name+"_"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := net.Pipe()
					var wg sync.WaitGroup
					wg.Go(func() { tt.behave(client) })
					p, _ := Lookup(name)
					began := time.Now()
					err := p.Refuse(server, waiting)
					if took := time.Since(began); took > refuseTimeout || !tt.check(err) {
						t.Errorf("Refuse() = %v after %v", err, took)
					}
					server.Close()
					client.Close()
					wg.Wait()
				})
			})
		}
	}
}

// TestRefuseBounded checks that no client is read for ever.
func TestRefuseBounded(t *testing.T) {
	for _, again := range []string{
		"\x00\x00\x00\x08\x04\xd2\x16/", "*1\r\n$5\r\nHELLO\r\n", "x: y\r\n", "\x00", "\r\n", "*0\r\n",
	} {
		for _, name := range refuserNames() {
			said := &countReader{r: strings.NewReader("GET / HTTP/1.1\r\n" + strings.Repeat(again, 1<<20/len(again)))}
			if again[0] != 'x' {
				said.r = strings.NewReader(strings.Repeat(again, 1<<20/len(again)))
			}
			_, err := refuseSaid(t, name, said, waiting)
			if said.n > refuseMax {
				t.Errorf("%s read %d bytes of %q: %v", name, said.n, again, err)
			}
		}
	}
}

type countReader struct {
	r io.Reader
	n int
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestRefuseUnsupported(t *testing.T) {
	for _, p := range protocols {
		_, err := refuseSaid(t, p.Name, strings.NewReader(""), waiting)
		want := p.Name == "oracle" || p.Name == "spanner"
		if got := errors.Is(err, errors.ErrUnsupported); got != want {
			t.Errorf("%s: %v, want unsupported: %v", p.Name, err, want)
		}
	}
	if _, err := refuseSaid(t, "postgres", strings.NewReader(""), waiting); !errors.Is(err, io.EOF) {
		t.Errorf("hung up at once: %v, want EOF", err)
	}
}

func TestRefusalLine(t *testing.T) {
	long := strings.Repeat("ä", 2000)
	tests := []struct {
		name  string
		r     Refusal
		limit int
		want  string
	}{
		{"whole", Refusal{Title: "A", Text: "B", Hint: "c"}, 99, "A: B. Hint: c"},
		{"no_text", Refusal{Title: "A", Hint: "c"}, 99, "A. Hint: c"},
		{"no_hint", Refusal{Title: "A:", Text: "B!"}, 99, "A: B!"},
		{"title_alone", Refusal{Title: "A."}, 99, "A"},
		{"nothing", Refusal{}, 99, "Connection refused"},
		{"escapes", Refusal{Title: "\x1b[31mA\r\n-OK\x00\x7f\u0085"}, 99, "A -OK"},
		{"reordered", Refusal{Title: "A\u202eB\u200bC"}, 99, "ABC"},
		{"invalid", Refusal{Title: "A\xff\xfeB"}, 99, "A\uFFFDB"},
		{"long_text", Refusal{Title: "A", Text: long, Hint: "c"}, 30, "A: " + strings.Repeat("ä", 8) + "… Hint: c"},
		{"long_title", Refusal{Title: long, Text: "B", Hint: "c"}, 20, strings.Repeat("ä", 8) + "…"},
		{"no_room", Refusal{Title: long}, 3, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.r.clean().line(tt.limit)
			if got != tt.want || len(got) > tt.limit {
				t.Errorf("line(%d) = %q (%d bytes), want %q", tt.limit, got, len(got), tt.want)
			}
		})
	}
}
