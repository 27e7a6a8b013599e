package tsh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// probeTries is how often a child may close the probe's connection at once
// before it is given up: the first certificate may take a moment.
const probeTries = 3

// reachWait is how long a child that listens may take until it is known how it
// leads to its target: tsh writes a kubeconfig right after it has begun to listen.
const reachWait = 5 * time.Second

// errClosesAtOnce is a child that takes connections and drops them.
var errClosesAtOnce = errors.New("tsh closes every connection at once: " +
	"its session has expired, or the resource cannot be reached")

// child is one run of tsh that listens for a [Tunnel].
type child struct {
	target Target
	port   int
	home   string // TELEPORT_HOME
	cmd    *Cmd
	proc   *process
	cancel context.CancelFunc
	said   *lineWriter   // both its streams, in the order in which it wrote
	banner chan struct{} // closed when the readiness line has come
	prompt chan prompt   // what the child asks the user to do
	reach  connect       // set before the child takes connections
	tty    *terminal     // nil without a terminal

	// The tunnel's lock guards these.
	conns   int // being dialled, and open
	open    map[*childConn]struct{}
	retired bool // replaced, gated or given up: ends with its last connection
	typed   bool // a PIN was typed for it
	givenUp bool // the tap or PIN that it asks for will not come
}

// args are the arguments of the child that listens on port.
func (cfg *TunnelConfig) args(port int) []string {
	args := cfg.Target.args(port)
	if cfg.Cluster != "" {
		args = append(args, "--cluster="+cfg.Cluster)
	}
	if cfg.Proxy != "" {
		args = append(args, "--proxy="+cfg.Proxy)
	}
	if cfg.Insecure {
		args = append(args, "--insecure")
	}
	return append(args, cfg.Target.name())
}

// start starts a child on a free loopback port, with that TELEPORT_HOME. It ends with ctx.
func (cfg *TunnelConfig) start(ctx context.Context, home string, log *slog.Logger) (*child, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, fmt.Errorf("find a free port for tsh: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &child{
		target: cfg.Target,
		port:   port,
		home:   home,
		cancel: cancel,
		cmd:    Command(ctx, cfg.Path, home, cfg.args(port)...),
		banner: make(chan struct{}),
		prompt: make(chan prompt, 1),
		open:   make(map[*childConn]struct{}),
	}
	if cfg.CAFile != "" {
		c.cmd.TrustCA(cfg.CAFile)
	}
	c.cmd.cmd.Env = append(c.cmd.cmd.Env, cfg.Target.env(port)...)
	if cfg.Terminal {
		if c.tty, err = openTerminal(); err != nil {
			cancel()
			return nil, fmt.Errorf("open a terminal for tsh: %w", err)
		}
		c.cmd.terminal = c.tty
	}
	// The line that names the port comes once tsh has bound it, so no other
	// program can have taken it meanwhile.
	own := regexp.MustCompile(`:` + strconv.Itoa(port) + `\b`)
	seen := sync.OnceFunc(func() { close(c.banner) })
	failed := false
	c.said = &lineWriter{onLine: func(line string) {
		log.Debug("tsh says", "local_port", port, "line", oneLine(line))
		failed = failed || isError(line)
		switch {
		case failed: // that the port is taken names it too
		case own.MatchString(line):
			seen()
		case pinPrompt.MatchString(line) && c.tty != nil: // else nothing can be typed, and tsh gives up
			c.asks(prompt{text: clip(oneLine(line), maxError), pin: true})
		case isPrompt(line):
			c.asks(prompt{text: clip(oneLine(line), maxError)})
		case strings.Contains(strings.ToLower(line), "detected security key tap"):
			c.asks(prompt{})
		}
	}}
	var screen writer = c.said
	if c.tty != nil {
		screen = c.tty.screen(screen)
	}
	// One pipe for both: whether tsh asked before it listened or after is seen only in
	// the order of what it wrote.
	if c.proc, err = c.cmd.start(screen, screen); err != nil {
		cancel()
		return nil, errors.Join(err, c.closeTerminal())
	}
	return c, nil
}

// prompt is what a child asks the user to do. Without a text that was done.
type prompt struct {
	text string
	pin  bool // to type the PIN of a security key
	late bool // it came when the child listened already: that it listens does not end it
}

// asks passes on what the child asks the user to do, in place of what it asked
// before.
func (c *child) asks(p prompt) {
	select {
	case <-c.banner:
		p.late = true
	default:
	}
	for {
		select {
		case c.prompt <- p:
			return
		default:
		}
		select {
		case <-c.prompt:
		default:
		}
	}
}

// closeTerminal takes the child's terminal away, if it has one.
func (c *child) closeTerminal() error {
	if c.tty == nil {
		return nil
	}
	return c.tty.Close()
}

// isPrompt reports whether tsh waits for the user: for a tap on a security key
// or for another device.
func isPrompt(line string) bool {
	line = strings.ToLower(line)
	return strings.HasPrefix(line, "tap any ") || strings.HasPrefix(line, "tap your ") ||
		strings.Contains(line, "using platform authenticator")
}

// freePort returns a loopback port without a listener.
func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := ln.Addr().(*net.TCPAddr).Port
	return port, ln.Close()
}

func (c *child) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// alive reports whether the child still runs.
func (c *child) alive() bool {
	select {
	case <-c.proc.done:
		return false
	default:
		return true
	}
}

// exitError says why the child ended.
func (c *child) exitError() error {
	<-c.proc.done
	said := c.complaint()
	err := c.cmd.exitError(c.proc, said)
	if err == nil {
		err = &ExitError{Command: c.cmd.name, Text: lastError(said)}
	}
	switch text := lastError(said); {
	case noFactor.MatchString(text):
		return &factorError{err}
	case portTaken.MatchString(text):
		return fmt.Errorf("%w: %w", errPortTaken, err)
	default:
		return err
	}
}

// errPortTaken is another program that took the port between its choice and tsh's bind.
var errPortTaken = errors.New("another program took the port")

// portTaken is what tsh says then: Go's words for EADDRINUSE and WSAEADDRINUSE.
var portTaken = regexp.MustCompile(`bind: address already in use|bind: Only one usage of each socket address`)

// complaint returns the last lines that may say why the child failed. Once it has
// listened they are how to use it, unless one names an error.
func (c *child) complaint() []string {
	lines := c.said.lines()
	select {
	case <-c.banner:
		if !slices.ContainsFunc(lines, isError) {
			return nil
		}
	default:
	}
	return lines
}

// factorError is an error that matches ErrFactor.
type factorError struct{ error }

// Is reports whether target is ErrFactor.
func (e *factorError) Is(target error) bool { return target == ErrFactor }

// Unwrap returns the error itself.
func (e *factorError) Unwrap() error { return e.error }

// noFactor is what tsh says when the second factor is missing.
var noFactor = regexp.MustCompile(`(?i)available MFA devices|no MFA devices|requires MFA|MFA is required|MFA required`)

// stop ends the child and waits until it is gone.
func (c *child) stop() {
	c.cancel()
	<-c.proc.done
}

// awaitReady returns nil once the child has said that it listens and a
// connection to it stays open. onPrompt is called when the user is needed,
// who then gets more time; it has been called for all that the child has asked
// until then.
func (c *child) awaitReady(ctx context.Context, tm timing, onPrompt func(*child, prompt)) error {
	timer := time.NewTimer(tm.ready)
	defer timer.Stop()
	asked := false
	late := func() error {
		text := ""
		if said := lastError(c.complaint()); said != "" {
			text = ": it last said: " + said
		}
		err := fmt.Errorf("tsh was not ready in time%s", text)
		if asked { // and no person touched the key
			return &factorError{err}
		}
		return err
	}
	for waiting := true; waiting; {
		select {
		case <-c.banner:
			waiting = false
		case p := <-c.prompt:
			asked = true
			timer.Reset(tm.prompt)
			onPrompt(c, p)
		case <-c.proc.done:
			return c.exitError()
		case <-timer.C:
			return late()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	for refusals := 0; refusals < probeTries; {
		if err = c.probe(ctx, tm.settle); err == nil && c.alive() {
			select {
			case p := <-c.prompt:
				onPrompt(c, p)
			default:
			}
			return nil
		}
		if errors.Is(err, errClosesAtOnce) {
			refusals++
		}
		select {
		case <-c.proc.done:
			return c.exitError()
		case p := <-c.prompt:
			asked = true
			timer.Reset(tm.prompt)
			onPrompt(c, p)
		case <-timer.C:
			return late()
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tm.retry):
		}
	}
	return err
}

// awaitReach waits until it is known how the child, which listens, leads to its
// target.
func (c *child) awaitReach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	for {
		reach, err := c.target.reach(c.port)
		if err == nil {
			c.reach = reach
			return nil
		}
		select {
		case <-c.proc.done:
			return c.exitError()
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// probe connects and sees whether the connection lives for a moment: tsh says
// that it listens before it has a certificate, and takes connections it cannot
// carry.
func (c *child) probe(ctx context.Context, settle time.Duration) error {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "tcp4", c.address())
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	if err := conn.SetReadDeadline(time.Now().Add(settle)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded): // the server speaks first, or waits
		return nil
	case errors.Is(err, io.EOF):
		return errClosesAtOnce
	default:
		return fmt.Errorf("%w (%w)", errClosesAtOnce, err)
	}
}
