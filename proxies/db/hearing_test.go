package db

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// spoken is what clients of everything that meets a port say first.
var spoken = map[string]string{
	"HTTP":       "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"TLS":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("r", 300),
	"SSH":        "SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
	"Redis":      "*1\r\n$4\r\nPING\r\n",
	"PostgreSQL": pgHello,
	"":           "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1\xf0\xef\xee\xed",
}

// TestStrangers has every protocol hear what belongs to none or to another.
func TestStrangers(t *testing.T) {
	for _, p := range protocols {
		if p.opens == nil {
			continue
		}
		for name, said := range spoken {
			http := name == "HTTP" && (p.Name == "clickhouse" || p.ALPN == "teleport-snowflake" || strings.Contains(p.Name, "http") ||
				strings.HasSuffix(p.Name, "search") || p.Name == "dynamodb")
			if own := name == "Redis" && p.Name == "redis" || name == "PostgreSQL" && p.ALPN == "teleport-postgres" || http; own {
				continue
			}
			t.Run(p.Name+"_hears_"+name, func(t *testing.T) {
				h := p.Listen()
				h.Client([]byte(said[:1]))
				h.Client([]byte(said[1:]))
				var stranger *StrangerError
				if !errors.As(h.Stranger(), &stranger) || stranger.Language != name {
					t.Errorf("stranger = %v, want %q", h.Stranger(), name)
				}
				if h.AnswerDue() {
					t.Error("the server owed an answer")
				}
			})
		}
	}
}

// TestOwnClientsAreNoStrangers plays what real clients say, cut anywhere.
func TestOwnClientsAreNoStrangers(t *testing.T) {
	for _, o := range openings(t) {
		p, _ := Lookup(o.protocol)
		if p.serverFirst {
			continue // what they say comes after the greeting: the wires below
		}
		t.Run(o.String(), func(t *testing.T) {
			for n := range len(o.said) + 1 {
				h := p.Listen()
				h.Client([]byte(o.said[:n]))
				if err := h.Stranger(); err != nil {
					t.Fatalf("after %q the client %v", o.said[:n], err)
				}
			}
			h := p.Listen()
			h.Client([]byte(o.said))
			if got, want := h.AnswerDue(), o.client != "cancel"; got != want {
				t.Errorf("an answer is due: %v, want %v", got, want)
			}
		})
	}
	login := "\x3b\x00\x00\x01\x05\xa2\x08\x00" + strings.Repeat("\x00", 0x37)
	for n := range len(login) {
		h := mysql.Listen()
		h.Client([]byte(login[:n]))
		if err := h.Stranger(); err != nil {
			t.Fatalf("MySQL's client is a stranger after %d bytes: %v", n, err)
		}
	}
}

// TestLongCancelKeys: keys of a CancelRequest have up to 256 bytes since
// protocol 3.2.
func TestLongCancelKeys(t *testing.T) {
	for _, size := range []int{4, 32, 256} {
		total := 12 + size
		h := postgres.Listen()
		h.Client([]byte("\x00\x00" + string([]byte{byte(total >> 8), byte(total)}) + "\x04\xd2\x16\x2e\x00\x00\x10\x92" + strings.Repeat("k", size)))
		if h.AnswerDue() || h.Stranger() != nil {
			t.Errorf("key of %d bytes: answer due %v, stranger %v", size, h.AnswerDue(), h.Stranger())
		}
	}
}

// TestSilentClients: a hang-up on a client that has said nothing is the server's
// doing only when it comes at once.
func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := redis.Listen()
		if !h.AnswerDue() {
			t.Error("a server that hangs up at once owed no answer")
		}
		time.Sleep(promptly)
		if h.AnswerDue() {
			t.Error("a server that ended a silent client later owed an answer")
		}
	})
}
