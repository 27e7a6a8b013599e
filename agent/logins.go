package agent

import (
	"context"
	"errors"
	"slices"
	"sync"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/agent/tsh"
)

// errLoginLeft is why a login ends that nobody takes part in any more.
var errLoginLeft = errors.New("login cancelled")

// logins are the logins under way: one for each profile.
type logins struct {
	wg sync.WaitGroup // one for each login

	mu sync.Mutex // guards by
	by map[loginKey]*login
}

// wait returns when no login runs; their context must be over.
func (ls *logins) wait() { ls.wg.Wait() }

// loginKey names what a login is for.
type loginKey struct{ home, proxy string }

// login is one run of "tsh login" and everybody who takes part in it.
type login struct {
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when tsh is gone
	// browser is the command that the config wants pages opened with; set
	// before the first prompt.
	browser []string

	mu       sync.Mutex // guards everything below
	people   int
	steps    []loginStep
	url      string
	asks     state.LoginKind // what the newest prompt wants; empty when it is settled
	over     bool
	err      error
	wanted   ipc.LoginStart // what is to be remembered, of all who take part
	seedUsed bool           // the seed to be remembered has answered a prompt
	changed  chan struct{}  // closed and replaced at every change of the above
}

// loginStep is an event that people who join late get too, unless it has been
// settled.
type loginStep struct {
	event   ipc.LoginEvent
	answer  func(string) // nil: asks for nothing
	settled bool
}

// join returns the login of key, started with run when there is none.
func (ls *logins) join(ctx context.Context, key loginKey, run func(context.Context, *login) error, done func()) *login {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	before := ls.by[key]
	if before != nil && before.enter() {
		return before
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l := &login{cancel: cancel, people: 1, ended: make(chan struct{}), changed: make(chan struct{})}
	if ls.by == nil {
		ls.by = make(map[loginKey]*login)
	}
	ls.by[key] = l
	ls.wg.Go(func() {
		defer close(l.ended)
		if before != nil {
			<-before.ended // everybody has left it, and its tsh is about to end
		}
		err := run(ctx, l)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		cancel(nil)
		ls.mu.Lock()
		if ls.by[key] == l {
			delete(ls.by, key)
		}
		ls.mu.Unlock()
		l.finish(err)
		done()
	})
	return l
}

// cancel ends the login of key; false means that there is none.
func (ls *logins) cancel(key loginKey) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.by[key]
	if l != nil {
		l.cancel(errLoginLeft)
	}
	return l != nil
}

// of returns the login of key; nil when none is under way.
func (ls *logins) of(key loginKey) *login {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.by[key]
}

// state is the login of key as a snapshot has it.
func (ls *logins) state(key loginKey) state.Login {
	l := ls.of(key)
	if l == nil {
		return state.Login{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return state.Login{InProgress: true, URL: l.url, Asks: l.asks}
}

// enter counts one more who takes part; false means that it is too late.
func (l *login) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.people == 0 {
		return false
	}
	l.people++
	return true
}

// leave counts one less; the last one's leaving ends the login.
func (l *login) leave() {
	l.mu.Lock()
	l.people--
	last := l.people == 0
	l.mu.Unlock()
	if last {
		l.cancel(errLoginLeft)
	}
}

func (l *login) changedLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *login) finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over, l.err = true, err
	l.changedLocked()
}

// failure is why the login came to nothing; nil while it goes on, and when it
// has not.
func (l *login) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// want notes what somebody who takes part wants remembered.
func (l *login) want(start ipc.LoginStart) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted.Remember = l.wanted.Remember || start.Remember
	if start.TOTPSeed != "" {
		l.wanted.TOTPSeed, l.seedUsed = start.TOTPSeed, false
	}
}

// wants is what want has noted.
func (l *login) wants() ipc.LoginStart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted
}

// takeSeed returns the seed that is to be remembered, once.
func (l *login) takeSeed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seedUsed {
		return ""
	}
	l.seedUsed = true
	return l.wanted.TOTPSeed
}

// prompt takes what tsh asks. What it asked before is settled then.
func (l *login) prompt(proxy string, p tsh.Prompt, answer func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Kind != state.LoginInfo {
		for i := range l.steps {
			l.settleLocked(i)
		}
	}
	if p.Kind != state.LoginPassword && p.Kind != state.LoginOTP {
		answer = nil
	}
	e := ipc.LoginEvent{
		ID: int64(len(l.steps) + 1), Kind: state.LoginKind(p.Kind), Text: p.Text, URL: p.URL, Proxy: proxy, Deadline: state.Instant(p.Deadline),
	}
	if p.Kind == state.LoginURL {
		e.Browser = l.browser
	}
	l.steps = append(l.steps, loginStep{answer: answer, event: e})
	if p.Kind != state.LoginInfo {
		l.url, l.asks = p.URL, p.Kind
	}
	l.changedLocked()
}

// settleLocked says that a step wants no answer any more.
func (l *login) settleLocked(i int) {
	if s := &l.steps[i]; s.answer != nil && !s.settled {
		s.settled = true
		l.asks = ""
		l.steps = append(l.steps, loginStep{event: ipc.LoginEvent{ID: s.event.ID, Kind: state.LoginSettled, Proxy: s.event.Proxy}})
	}
}

// answered passes on what somebody typed: the first answer counts.
func (l *login) answered(a ipc.LoginAnswer) {
	l.mu.Lock()
	i := slices.IndexFunc(l.steps, func(s loginStep) bool { return s.event.ID == a.ID && s.answer != nil && !s.settled })
	var answer func(string)
	if i >= 0 {
		answer = l.steps[i].answer
		l.settleLocked(i)
		l.changedLocked()
	}
	l.mu.Unlock()
	if answer != nil {
		answer(a.Secret)
	}
}

// follow takes part in the login until it is over or ctx ends.
func (l *login) follow(ctx context.Context, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) error {
	defer l.leave()
	for next, joined := 0, true; ; joined = false {
		l.mu.Lock()
		fresh := slices.Clone(l.steps[next:])
		next = len(l.steps)
		over, err, changed := l.over, l.err, l.changed
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
