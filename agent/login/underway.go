package login

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/wake"
)

// ErrLeft is why a login ends in which no front end takes part any longer.
var ErrLeft = errors.New("login cancelled")

// underway are the logins that run now: one for each profile.
type underway struct {
	wg sync.WaitGroup // one for each login

	mu   sync.Mutex // guards everything below
	by   map[Key]*Login
	over bool // wait was called
}

// wait returns when no login runs and nothing that start has begun; their context must be
// over.
func (u *underway) wait() {
	u.mu.Lock()
	u.over = true
	u.mu.Unlock()
	u.wg.Wait()
}

// start runs f on a goroutine that wait waits for; after wait it does nothing.
func (u *underway) start(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over {
		u.wg.Go(f)
	}
}

// Key names what a login is for.
type Key struct {
	Home, Proxy string
	// Codes names the run that asks for the one-time codes of tunnels, while
	// the session is valid.
	Codes bool
}

// Login is one run of "tsh login" and the front ends that take part in it.
type Login struct {
	began  time.Time
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when tsh is gone
	// browser is the command that the config wants pages opened with; set
	// before the first prompt.
	browser []string
	changed wake.Broadcast // what follows has changed

	mu       sync.Mutex // guards everything below
	people   int
	left     bool // it is being ended: whoever comes now begins another
	steps    []loginStep
	url      string
	asks     state.LoginKind // what the newest prompt wants; empty when it is settled
	over     bool
	err      error
	wanted   ipc.LoginStart // what is to be remembered, of all who take part
	seedUsed bool           // the seed to be remembered has answered a prompt
}

// Began is when the login was started.
func (l *Login) Began() time.Time { return l.began }

// loginStep is an event that people who join late get too, unless it has been
// settled.
type loginStep struct {
	event   ipc.LoginEvent
	answer  func(string) // nil: asks for nothing
	settled bool
}

// join returns the login of key, started with run when there is none.
func (u *underway) join(ctx context.Context, key Key, run func(context.Context, *Login) error, done func()) *Login {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.by[key]
	if before != nil && before.enter() {
		return before
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l := &Login{began: time.Now().Round(0), cancel: cancel, people: 1, ended: make(chan struct{})}
	if u.by == nil {
		u.by = make(map[Key]*Login)
	}
	u.by[key] = l
	u.wg.Go(func() {
		defer close(l.ended)
		if before != nil {
			<-before.ended // its tsh is about to end
		}
		err := run(ctx, l)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		cancel(nil)
		u.mu.Lock()
		if u.by[key] == l {
			delete(u.by, key)
		}
		u.mu.Unlock()
		l.finish(err)
		done()
	})
	return l
}

// cancel ends the login of key; false means that there is none.
func (u *underway) cancel(key Key) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.by[key]
	if l == nil {
		return false
	}
	l.mu.Lock()
	l.left = true
	l.mu.Unlock()
	l.cancel(ErrLeft)
	return true
}

// of returns the login of key; nil when none is under way.
func (u *underway) of(key Key) *Login {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.by[key]
}

// state is the login of key as a snapshot has it.
func (u *underway) state(key Key) state.Login {
	l := u.of(key)
	if l == nil {
		return state.Login{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return state.Login{InProgress: true, URL: l.url, Asks: l.asks}
}

// enter counts one more who takes part; false means that it is too late.
func (l *Login) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.left {
		return false
	}
	l.people++
	return true
}

// leave counts one less; the last one's leaving ends the login.
func (l *Login) leave() {
	l.mu.Lock()
	l.people--
	last := l.people == 0
	l.left = l.left || last
	l.mu.Unlock()
	if last {
		l.cancel(ErrLeft)
	}
}

func (l *Login) finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over, l.err = true, err
	l.changed.Wake()
}

// Failure returns the login's error; nil while it runs or if it succeeded.
func (l *Login) Failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// want notes what a participant wants remembered.
func (l *Login) want(start ipc.LoginStart) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted.Remember = l.wanted.Remember || start.Remember
	if start.TOTPSeed != "" {
		l.wanted.TOTPSeed, l.seedUsed = start.TOTPSeed, false
	}
}

// wants returns the wishes that want has noted.
func (l *Login) wants() ipc.LoginStart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted
}

// takeSeed returns the seed that is to be remembered, once.
func (l *Login) takeSeed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seedUsed {
		return ""
	}
	l.seedUsed = true
	return l.wanted.TOTPSeed
}

// prompt takes what tsh asks. What it asked before is settled then.
func (l *Login) prompt(proxy string, p tsh.Prompt, answer func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Kind != state.LoginInfo {
		for i := range l.steps {
			l.settleLocked(i)
		}
	}
	if !p.Kind.Typed() {
		answer = nil
	}
	e := ipc.LoginEvent{
		ID: int64(len(l.steps) + 1), Kind: p.Kind, Text: p.Text, URL: p.URL, Proxy: proxy, Deadline: state.Instant(p.Deadline),
	}
	if p.Kind == state.LoginURL {
		e.Browser = l.browser
	}
	l.steps = append(l.steps, loginStep{answer: answer, event: e})
	if p.Kind != state.LoginInfo {
		l.url, l.asks = p.URL, p.Kind
	}
	l.changed.Wake()
}

// settle says that nothing that was asked wants an answer.
func (l *Login) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.steps {
		l.settleLocked(i)
	}
	l.changed.Wake()
}

// settleLocked says that a step wants no answer any more.
func (l *Login) settleLocked(i int) {
	if s := &l.steps[i]; s.answer != nil && !s.settled {
		s.settled = true
		l.asks = ""
		l.steps = append(l.steps, loginStep{event: ipc.LoginEvent{ID: s.event.ID, Kind: state.LoginSettled, Proxy: s.event.Proxy}})
	}
}

// answered passes on what a person typed: the first answer counts.
func (l *Login) answered(a ipc.LoginAnswer) {
	l.mu.Lock()
	i := slices.IndexFunc(l.steps, func(s loginStep) bool { return s.event.ID == a.ID && s.answer != nil && !s.settled })
	var answer func(string)
	if i >= 0 {
		answer = l.steps[i].answer
		l.settleLocked(i)
		l.changed.Wake()
	}
	l.mu.Unlock()
	if answer != nil {
		answer(a.Secret)
	}
}

// Follow takes part in the login until it is over or ctx ends.
func (l *Login) Follow(ctx context.Context, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) error {
	defer l.leave()
	for next, joined := 0, true; ; joined = false {
		changed := l.changed.Changed()
		l.mu.Lock()
		fresh := slices.Clone(l.steps[next:])
		next = len(l.steps)
		over, err := l.over, l.err
		l.mu.Unlock()
		for _, s := range fresh {
			if joined && (s.settled || s.event.Kind == state.LoginSettled) {
				continue // over before this one came
			}
			if err := show(s.event); err != nil {
				return err
			}
		}
		if over {
			return err
		}
		select {
		case <-changed:
		case a := <-answers:
			l.answered(a)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
