package tsh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/agent/state"
	"berth/internal/wake"
)

// Prompt is one thing that tsh asks or says while it logs in.
type Prompt struct {
	Kind     state.LoginKind
	Text     string    // in tsh's words, cleaned
	URL      string    // of LoginURL: as tsh printed it, not checked
	Deadline time.Time // until when tsh waits; zero when that is unknown
	// Together says of LoginOTP that tsh sends the code with the password, so that either
	// may be what is refused. Else the cluster has taken the password already.
	Together bool
}

const (
	// ssoWait is how long tsh waits for a browser to come back, and a bit.
	ssoWait = 183 * time.Second
	// typeWait is how long a person may take to type a password or touch a key.
	typeWait = 3 * time.Minute
	// silentWait is how long tsh may say nothing before its first prompt or
	// after an answer; an unreachable proxy takes it half a minute.
	silentWait = 45 * time.Second
	// approvalWait is how long the login's access request may take: after an hour one that
	// was not decided lapses, unless a role says otherwise.
	approvalWait = time.Hour
)

// LoginConfig says how to log in.
type LoginConfig struct {
	Path     string        // of tsh
	Home     string        // TELEPORT_HOME; empty means tsh's default
	Proxy    string        // host:port
	User     string        // empty means tsh's own choice; leave it empty for single sign-on
	Auth     string        // connector; empty means the cluster's default
	MFAMode  string        // second factor to prefer, as in --mfa-mode; empty means tsh's choice
	TTL      time.Duration // of the session; zero means what the roles allow
	Insecure bool          // do not verify the proxy's web certificate
	CAFile   string        // PEM file that signed it; empty means the system's roots
	// Terminal gives tsh a terminal to read a password or a code from. Single
	// sign-on needs none.
	Terminal bool
	Logger   *slog.Logger
	// Ask is called for every prompt, in order; it must not block. answer takes
	// what was typed, once, from any goroutine; for prompts that need no answer
	// it does nothing.
	Ask func(p Prompt, answer func(string))

	silent   time.Duration // zero means silentWait
	approval time.Duration // zero means approvalWait
}

// command returns tsh's arguments.
func (c LoginConfig) command() []string {
	args := []string{"login", "--proxy=" + c.Proxy}
	if c.User != "" {
		args = append(args, "--user="+c.User)
	}
	if c.Auth != "" {
		args = append(args, "--auth="+c.Auth)
	}
	if c.MFAMode != "" {
		args = append(args, "--mfa-mode="+c.MFAMode)
	}
	if c.TTL > 0 {
		args = append(args, "--ttl="+strconv.Itoa(max(1, int(c.TTL.Minutes()))))
	}
	return append(args, c.always()...)
}

// always are the arguments of every kind of login.
func (c LoginConfig) always() []string {
	args := []string{"--add-keys-to-agent=no", "--browser=none"}
	if c.Insecure {
		args = append(args, "--insecure")
	}
	return args
}

// Why a login failed: a [*LoginError] matches one of them.
var (
	ErrBadLogin         = errors.New("user, password or code is wrong")
	ErrUnknownConnector = errors.New("there is no such connector")
	ErrProxyUnreachable = errors.New("the proxy does not answer")
	ErrProxyUntrusted   = errors.New("the proxy's web certificate is not trusted")
	ErrLoginTimeout     = errors.New("the login took too long")
	ErrNotApproved      = errors.New("the login's access request was not approved")
	ErrLocked           = errors.New("the cluster has locked you out")
	ErrLoginRefused     = errors.New("the identity provider refused")
	ErrNoTerminal       = errors.New("tsh needs a terminal for this login")
	errLoginFailed      = errors.New("the login failed") // tsh's words are all there is
)

// LoginError is a login that tsh ended, or that was ended for it.
type LoginError struct {
	Reason error  // one of the errors above
	Text   string // what tsh said last, cleaned; may be empty
	Err    error  // how tsh ended; nil when it was ended
}

// Error says why, and what tsh said where that says more.
func (e *LoginError) Error() string {
	if e.Text == "" {
		return e.Reason.Error()
	}
	return fmt.Sprintf("%v: %s", e.Reason, e.Text)
}

// lockMessage is what the cluster says of a lock, and its message in it.
var lockMessage = regexp.MustCompile(`lock targeting .*? is in force: (.*)`)

// Lock returns the message of the lock that refused the login; empty for another
// reason, and where there is none.
func (e *LoginError) Lock() string {
	found := lockMessage.FindStringSubmatch(e.Text)
	if found == nil {
		return ""
	}
	return found[1]
}

// Unwrap returns the reason and how tsh ended.
func (e *LoginError) Unwrap() []error { return []error{e.Reason, e.Err} }

// Login runs "tsh login" until it is done, ctx ends, or it takes too long. It
// returns nil when tsh says that the user is logged in, a [*NotFoundError] when
// there is no tsh, ctx's error when that ended it, else a [*LoginError]. When
// it returns, tsh and all it started are gone.
//
// What is typed goes to tsh's terminal and nowhere else, and not before tsh has
// turned the terminal's echo off.
func Login(ctx context.Context, cfg LoginConfig) error {
	if cfg.silent == 0 {
		cfg.silent = silentWait
	}
	if cfg.approval == 0 {
		cfg.approval = approvalWait
	}
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := Command(runCtx, cfg.Path, cfg.Home, cfg.command()...)
	if cfg.CAFile != "" {
		c.TrustCA(cfg.CAFile)
	}
	l := &loginRun{cfg: cfg, ctx: runCtx, cancel: cancel}
	if cfg.Terminal {
		tty, err := openTerminal()
		if err != nil {
			return &LoginError{Reason: ErrNoTerminal, Err: err}
		}
		defer tty.Close() //nolint:errcheck // nothing was written that matters any more
		l.tty, c.terminal = tty, tty
	}
	l.timer = time.AfterFunc(cfg.silent, func() { cancel(ErrLoginTimeout) })
	defer l.timer.Stop()
	l.screen = &lineWriter{onLine: l.line}
	var screen writer = &screenWriter{lines: l.screen}
	if l.tty != nil {
		screen = l.tty.screen(screen)
	}
	p, err := c.start(&lineWriter{onLine: func(text string) { l.awaitsApproval(text) }}, screen)
	if cause := context.Cause(runCtx); err != nil && cause != nil && ctx.Err() == nil { // it had no time to start
		return &LoginError{Reason: cause, Err: err}
	}
	if err != nil {
		return err
	}
	cfg.Logger.Debug("tsh login runs", "proxy", cfg.Proxy, "pid", p.pid, "terminal", cfg.Terminal)
	<-p.done
	cause := context.Cause(runCtx)
	l.end()
	said := l.screen.lines()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case l.requested.Load() && cause != nil:
		return &LoginError{Reason: ErrNotApproved, Err: cause}
	case l.requested.Load() && p.err != nil:
		err := c.exitError(p, said)
		return &LoginError{Reason: ErrNotApproved, Text: lastWords(said, err), Err: err}
	case cause != nil:
		return &LoginError{Reason: cause, Text: lastError(said)}
	case p.err == nil:
		return nil
	default:
		return loginError(said, c.exitError(p, said))
	}
}

// loginRun is one login under way.
type loginRun struct {
	cfg    LoginConfig
	ctx    context.Context // ends when tsh must, and with tsh
	cancel context.CancelCauseFunc
	tty    *terminal // nil without a terminal
	timer  *time.Timer
	screen *lineWriter
	// requested says that roles make the login an access request, which is made.
	requested atomic.Bool

	// The output's goroutine owns these.
	urlNext bool // the next line is the login URL
	failed  bool // what follows belongs to the error, which is reported at the end

	mu      sync.Mutex // guards everything below
	asked   int        // prompts so far: an answer to an older one is not typed
	typists sync.WaitGroup
}

// line takes one line of what tsh says.
func (l *loginRun) line(text string) {
	if l.failed = l.failed || strings.HasPrefix(text, "ERROR:"); l.failed {
		return
	}
	if l.awaitsApproval(text) {
		return
	}
	p := readPrompt(text, l.urlNext)
	l.urlNext = announcesURL(text)
	wait := typeWait
	switch {
	case l.urlNext, p.Kind == "":
		return
	case p.Kind == state.LoginInfo:
		l.cfg.Ask(p, func(string) {})
		return
	case p.Kind == state.LoginURL:
		wait = ssoWait
	}
	l.timer.Reset(wait)
	p.Deadline = time.Now().Add(wait).Round(0)
	l.mu.Lock()
	l.asked++
	number := l.asked
	l.mu.Unlock()
	var once sync.Once
	l.cfg.Ask(p, func(secret string) { once.Do(func() { l.answer(number, secret) }) })
}

// awaitsApproval reports whether tsh has said, on stdout, that it waits for the login's
// access request, and gives it the time.
func (l *loginRun) awaitsApproval(text string) bool {
	if !approvalLine.MatchString(text) {
		return false
	}
	l.requested.Store(true)
	l.timer.Reset(l.cfg.approval)
	l.cfg.Ask(Prompt{
		Kind: state.LoginInfo,
		Text: "The login waits for an access request to be approved, for an hour at most: your roles make each login one.",
	}, func(string) {})
	return true
}

// answer types what tsh asked for.
func (l *loginRun) answer(number int, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil || l.tty == nil || number != l.asked {
		return
	}
	l.timer.Reset(l.cfg.silent)
	l.typists.Go(func() {
		if err := typeSecret(l.ctx, l.tty, secret); err != nil {
			l.cancel(err)
		}
	})
}

// end makes answers that come from now on go nowhere.
func (l *loginRun) end() {
	l.mu.Lock()
	l.cancel(nil)
	l.mu.Unlock()
	l.typists.Wait()
}

// echoWait is how long after its prompt tsh may take to turn echo off.
const echoWait = 5 * time.Second

// typeSecret types a line once the terminal no longer shows what is typed. When
// ctx ends it leaves off, which is no error.
func typeSecret(ctx context.Context, tty *terminal, secret string) error {
	for end := time.Now().Add(echoWait); ; {
		off, err := tty.echoIsOff()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("look at tsh's terminal: %w", err)
		case off:
			if err := tty.typeLine(secret); err != nil && ctx.Err() == nil {
				return errors.New("tsh does not read its terminal")
			}
			return nil
		case time.Now().After(end):
			return errors.New("tsh asks for a secret and would show it")
		}
		wake.Sleep(ctx, 5*time.Millisecond)
	}
}
