package db

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"berth/internal/testwait"
)

// families are the protocols that are answered as another one, because their
// clients begin alike.
var families = map[string]string{
	"cockroachdb": "postgres", "mariadb": "mysql", "clickhouse-http": "elasticsearch", "opensearch": "elasticsearch",
	"dynamodb": "elasticsearch", "snowflake": "elasticsearch",
}

// TestRefuseUnknown: whoever is known by what it says is told the same as by
// one who knew its protocol.
func TestRefuseUnknown(t *testing.T) {
	for _, o := range openings(t) {
		if o.client == "telnet" {
			continue // a person who types: anything may come
		}
		t.Run(o.String(), func(t *testing.T) {
			protocol := o.protocol
			if same := families[protocol]; same != "" {
				protocol = same
			}
			if o.protocol == "clickhouse" && o.said[0] != chHello {
				protocol = "elasticsearch" // it speaks HTTP to a port that knows both
			}
			want, err := refuseSaid(t, protocol, strings.NewReader(o.said), waiting)
			if err != nil {
				t.Fatal(err)
			}
			c := &fakeClient{say: silentAfter(o.said)}
			if err := RefuseUnknown(c, waiting); err != nil {
				t.Fatal(err)
			}
			if got := c.heard.String(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// silentAfter is a client that waits for the answer when it has said all.
func silentAfter(said string) io.Reader {
	return io.MultiReader(strings.NewReader(said), readerFunc(func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestRefuseUnknownSaysNothing: to strangers, and to those who hang up.
func TestRefuseUnknownSaysNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		said string
		want error
	}{
		"tls":     {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", errGarbage},
		"ssh":     {"SSH-2.0-OpenSSH_9.2\r\n", errGarbage},
		"ones":    {strings.Repeat("\xff", 64), errGarbage},
		"word":    {"GETAWAY", errGarbage},
		"hang_up": {"", io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			c := &fakeClient{say: strings.NewReader(tc.said)}
			if err := RefuseUnknown(c, waiting); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if c.heard.Len() > 0 {
				t.Errorf("got %q", c.heard.String())
			}
		})
	}
}

// TestRefuseUnknownSilent: over a real connection, the silent client is taken
// for one that waits for the server.
func TestRefuseUnknownSilent(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	done := make(chan error, 1)
	go func() {
		done <- RefuseUnknown(server, waiting)
		_ = server.Close()
	}()
	_ = client.SetDeadline(time.Now().Add(testwait.Patience))
	heard, err := io.ReadAll(client)
	if err != nil || !strings.Contains(string(heard), waiting.Title) {
		t.Errorf("heard %q, %v", heard, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzRefuseUnknown(f *testing.F) {
	for _, o := range openings(f) {
		f.Add([]byte(o.said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := &fakeClient{say: silentAfter(string(said))}
		if err := RefuseUnknown(c, waiting); err == nil && c.heard.Len() == 0 && !strings.HasPrefix(string(said), "\x00\x00") {
			t.Errorf("%q: no error, and nothing told", said)
		}
	})
}
