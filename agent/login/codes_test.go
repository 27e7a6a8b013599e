package login

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/memory"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/sessions"
	"berth/certwatch"
)

// codesBench is the logins of one profile, in a bubble, with a tunnel that takes codes.
type codesBench struct {
	*Logins
	t      *testing.T
	p      *certwatch.Profile
	got    []string     // the codes that the tunnel's answers were
	met    atomic.Bool  // one was taken
	answer func() error // what the cluster makes of one
}

// withCodes runs f in a bubble.
func withCodes(t *testing.T, f func(b *codesBench)) {
	t.Helper()
	kept, err := memory.Load(filepath.Join(t.TempDir(), "memory.json"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		log := slog.New(slog.DiscardHandler)
		b := &codesBench{
			t: t, p: &certwatch.Profile{Home: "/home/alice/.tsh", ProxyAddr: "tele.example.com:443", User: "alice"},
			answer: func() error { return nil },
		}
		b.Logins = New(ctx, Config{
			Config:   func() *config.Config { return &config.Config{} },
			Sessions: sessions.New(log), Memory: kept, Keychain: &secretstest.Keychain{},
			OnChange: func() {}, Publish: func() {}, Logger: log,
		})
		defer b.Wait()
		defer cancel()
		f(b)
	})
}

// need has the tunnel take a code.
func (b *codesBench) need() { b.needOf(b.p) }

func (b *codesBench) needOf(p *certwatch.Profile) {
	b.met.Store(false)
	b.Need(CodeNeed{
		Profile: p, Tunnel: "pg",
		Held: func() bool { return false },
		Met:  b.met.Load,
		Answer: func(_ context.Context, code string) error {
			b.got = append(b.got, code)
			err := b.answer()
			if p != b.p {
				err = errors.New("that session was replaced")
			}
			b.met.Store(err == nil)
			return err
		},
	})
}

// settled waits for what is under way, and until the code of before is none any more:
// each is good once.
func (b *codesBench) settled() {
	synctest.Wait()
	time.Sleep(40 * time.Second)
	synctest.Wait()
}

// benchSeed is the seed that the bench stores.
const benchSeed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// store stores a seed as a login does that has succeeded.
func (b *codesBench) store() {
	typist := &typist{ls: b.Logins, l: &Login{}, proxy: b.p.ProxyAddr, user: b.p.User}
	if !typist.keep(b.t.Context(), secrets.TOTP, benchSeed) {
		b.t.Error("the seed was not stored")
	}
	b.seedStored(b.p)
}

// TestSeedStoredAfterItIsNeeded: a login's session is there a moment before its seed is
// stored, and a tunnel may have taken a code in between.
func TestSeedStoredAfterItIsNeeded(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		b.need()
		b.settled()
		if len(b.got) != 0 {
			t.Fatal("a code came from nowhere")
		}
		b.store()
		b.settled()
		if !b.met.Load() {
			t.Error("the seed that was stored answers nothing")
		}
	})
}

// TestRefusedSeed: a seed that was refused is not used again, and one that is stored in
// its place is.
func TestRefusedSeed(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		b.store()
		b.answer = func() error { return cluster.ErrWrongCode }
		b.need()
		b.settled()
		b.answer = func() error { return nil }
		b.need()
		b.settled()
		if len(b.got) != 1 || b.met.Load() {
			t.Fatalf("%d codes of a wrong seed were tried, want 1", len(b.got))
		}
		b.store()
		b.settled()
		if !b.met.Load() {
			t.Error("the seed stored in place of a refused one answers nothing")
		}
	})
}

// TestSeedStoredWhileAnotherIsTried: what is refused then is the old one.
func TestSeedStoredWhileAnotherIsTried(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		b.store()
		b.answer = func() error {
			b.answer = func() error { return nil }
			b.store()
			return cluster.ErrWrongCode
		}
		b.need()
		b.settled()
		if len(b.got) != 2 || !b.met.Load() {
			t.Errorf("%d codes were tried, want one of each seed; answered: %v", len(b.got), b.met.Load())
		}
	})
}

// TestSeedStoredWhilePeopleAreAsked: it answers in their place.
func TestSeedStoredWhilePeopleAreAsked(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		b.need()
		result := make(chan error, 1)
		go func() {
			result <- b.joinCodes(codesKey(b.p)).Follow(b.t.Context(), nil, func(ipc.LoginEvent) error { return nil })
		}()
		synctest.Wait()
		b.store()
		b.settled()
		if !b.met.Load() {
			t.Fatal("people are still asked for what the seed answers")
		}
		if err := <-result; err != nil {
			t.Errorf("the asking ended with %v", err)
		}
	})
}

// TestCodePromptEnds: a prompt for a code says until when it waits, and does not outlast
// that.
func TestCodePromptEnds(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		b.need()
		until := make(chan *time.Time, 1)
		result := make(chan error, 1)
		go func() {
			result <- b.joinCodes(codesKey(b.p)).Follow(b.t.Context(), nil, func(ev ipc.LoginEvent) error {
				until <- ev.Deadline
				return nil
			})
		}()
		asked := time.Now()
		if at := <-until; at == nil || at.Sub(asked) != codeWait {
			t.Errorf("it waits until %v, asked at %v", at, asked)
		}
		time.Sleep(codeWait + time.Second)
		synctest.Wait()
		select {
		case err := <-result:
			if !errors.Is(err, errNothingTyped) {
				t.Errorf("the asking ended with %v", err)
			}
		default:
			t.Fatal("it is asked for ever")
		}
		if b.State(b.p).InProgress {
			t.Error("the asking is still under way")
		}
	})
}

// TestNeedAsARunEnds: a run that has found nothing left to answer does not see what comes
// before it is over.
func TestNeedAsARunEnds(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		var again sync.Once
		b.cfg.OnChange = func() { // the last that a run does is to say so
			if b.met.Load() && b.Of(codesKey(b.p)) == nil {
				again.Do(b.need)
			}
		}
		b.store()
		b.need()
		b.settled()
		if len(b.got) != 2 || !b.met.Load() {
			t.Errorf("%d codes, want 2; answered: %v", len(b.got), b.met.Load())
		}
	})
}

// TestSessionReplacedWhileACodeIsWaitedFor: the code is not wasted on the session before,
// since the next would take half a minute.
func TestSessionReplacedWhileACodeIsWaitedFor(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		b.store()
		b.need()
		synctest.Wait()
		before := *b.p
		b.needOf(&before)
		synctest.Wait() // for the next code
		b.need()
		b.settled()
		if len(b.got) != 2 || !b.met.Load() {
			t.Errorf("%d codes were tried, want one for each session that asked; answered: %v", len(b.got), b.met.Load())
		}
	})
}

// TestNeedOfASuccessor: a tunnel that has ended takes back its own need, not that of the
// tunnel in its place.
func TestNeedOfASuccessor(t *testing.T) {
	withCodes(t, func(b *codesBench) {
		never := func() bool { return false }
		old, successor := CodeNeed{Profile: b.p, Tunnel: "pg", Of: "old", Held: never, Met: never}, CodeNeed{Profile: b.p, Tunnel: "pg", Of: "new", Held: never, Met: never}
		b.Need(successor)
		b.Need(old)
		b.NeedGone("pg", old.Of)
		if left, _ := b.codes.of(old.key()); len(left) != 1 || left[0].Of != successor.Of {
			t.Errorf("left: %+v", left)
		}
		if b.codes.lacks(old) || !b.codes.lacks(successor) {
			t.Error("the successor's need passes for that of the tunnel that has ended")
		}
	})
}
