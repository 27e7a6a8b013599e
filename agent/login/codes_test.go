package login

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/memory"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/sessions"
	"berth/certwatch"
)

const seedInTests = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// tunnelTaking is a tunnel that takes codes, and is answered once.
type tunnelTaking struct {
	ls  *Logins
	p   *certwatch.Profile
	met bool
	got []string
	err error // what its answers come to
}

func (f *tunnelTaking) need(name string) {
	f.met = false
	f.ls.Need(CodeNeed{
		Profile: f.p, Tunnel: name,
		Held: func() bool { return false },
		Met:  func() bool { return f.met },
		Answer: func(_ context.Context, code string) error {
			f.got, f.met = append(f.got, code), f.err == nil
			return f.err
		},
	})
}

// TestSeedStoredAfterItIsNeeded: a login's session is there a moment before its seed is
// stored, and a tunnel may have taken a code in between. A new seed takes the place of
// one that was refused.
func TestSeedStoredAfterItIsNeeded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.json")
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		kept, err := memory.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		keychain := &secretstest.Keychain{}
		ls := New(ctx, Config{
			Config:   func() *config.Config { return &config.Config{} },
			Sessions: sessions.New(log), Memory: kept, Keychain: keychain,
			OnChange: func() {}, Publish: func() {}, Logger: log,
		})
		defer ls.Wait()
		defer cancel()
		p := &certwatch.Profile{Home: "/home/alice/.tsh", ProxyAddr: "tele.example.com:443", User: "alice"}
		tunnel := &tunnelTaking{ls: ls, p: p}
		typist := &typist{ls: ls, l: &Login{}, proxy: p.ProxyAddr, user: p.User}
		store := func() {
			if !typist.keep(ctx, secrets.TOTP, seedInTests) {
				t.Fatal("the seed was not stored")
			}
			ls.seedStored(p)
			synctest.Wait()
		}

		tunnel.need("pg")
		synctest.Wait()
		if len(tunnel.got) != 0 {
			t.Fatal("a code came from nowhere")
		}
		store()
		if !tunnel.met {
			t.Fatal("the seed that was stored answers nothing")
		}

		tunnel.err = cluster.ErrWrongCode
		tunnel.need("pg")
		synctest.Wait()
		time.Sleep(30 * time.Second) // each code is good once
		synctest.Wait()
		if len(tunnel.got) != 2 {
			t.Fatalf("%d codes, want one more, which was wrong", len(tunnel.got))
		}
		tunnel.err = nil
		tunnel.need("pg")
		synctest.Wait()
		if tunnel.met {
			t.Fatal("a seed that was refused is used again")
		}
		store()
		time.Sleep(30 * time.Second) // each code is good once
		synctest.Wait()
		if !tunnel.met {
			t.Error("the seed stored in place of a refused one answers nothing")
		}
	})
}
