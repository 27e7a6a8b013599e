// Package kubelocal is what the tunnels to Kubernetes share on this machine: the
// local listener, the local CA, and the kubeconfig by which clients find both. The
// CA's certs serve the clients of other tunnels as well, if they ask for TLS.
package kubelocal

import (
	"context"
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/state"
	"berth/internal/wake"
	"berth/proxies"
	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

// Config says where the files are and which callbacks to call.
type Config struct {
	StateDir string
	Sockets  *proxies.Sockets // the process's listening sockets
	Limits   *proxies.Limits  // of connections; nil: none
	Keychain Keychain         // holds the CA's key; nil: a file does
	Grace    time.Duration    // for the connections of a listener that closes
	// Absent words the refusal of a client whose server name no tunnel serves.
	Absent   func(serverName string) kube.Refusal
	OnChange func() // the problems, or the listener's port, have changed
	Logger   *slog.Logger
}

// Local is the shared part of all tunnels to Kubernetes.
type Local struct {
	cfg   Config
	files *files

	// Below is for Listener, Serve and CloseListener, which take turns.
	listener *kube.Listener // nil while no tunnel needs it
	port     int            // of the listener
	serve    func()         // runs it, once
	stop     context.CancelFunc
	running  sync.WaitGroup // listeners, those that drain included
}

// New returns a Local that has touched nothing yet.
func New(cfg Config) *Local {
	f := &files{
		store: kube.CAStore{File: kube.FileStore(filepath.Join(cfg.StateDir, "kube-ca.pem"))},
		path:  kubeconfig.Path(cfg.StateDir), cert: filepath.Join(cfg.StateDir, "local-ca.pem"), touch: cfg.OnChange, log: cfg.Logger, asked: wake.NewSignal(),
	}
	if cfg.Keychain != nil {
		f.store.Vault = vault{cfg.Keychain}
	}
	return &Local{cfg: cfg, files: f}
}

// Start brings the files in line with cfg as far as that needs no keychain; call
// it before Run.
func (l *Local) Start(ctx context.Context, cfg *config.Config) {
	l.files.want(cfg)
	l.files.start(ctx)
}

// Run keeps the files in line until ctx ends.
func (l *Local) Run(ctx context.Context) { l.files.run(ctx) }

// Follow makes cfg the config that the kubeconfig follows. Run does the work.
func (l *Local) Follow(cfg *config.Config) { l.files.want(cfg) }

// Settled waits, for some seconds at most, until the kubeconfig says what it is
// to say, or cannot be written.
func (l *Local) Settled(ctx context.Context) { l.files.settled(ctx) }

// Problems returns what is wrong with the files.
func (l *Local) Problems() []state.Problem { return l.files.problems() }

// CA returns the local CA. It waits for no keychain: until Run has made a CA
// there is none, and the error matches fs.ErrNotExist.
func (l *Local) CA() (*kube.LocalCA, error) { return l.files.localCA() }

// ServerCert returns the certificate for TLS on loopback addresses. Where there is
// no CA it has Run make one, and waits for that for some seconds at most.
func (l *Local) ServerCert(ctx context.Context) (*tls.Certificate, error) {
	ca, err := l.files.ensure(ctx)
	if err != nil {
		return nil, err
	}
	return ca.ServerCert()
}

// CACert is the local CA's certificate, for clients that are to trust it.
type CACert struct {
	Path       string // a file that has it
	PEM        []byte
	ValidUntil time.Time
}

// CACert returns the local CA's certificate, made like that of ServerCert, once it
// is in its file.
func (l *Local) CACert(ctx context.Context) (CACert, error) {
	ca, err := l.files.ensure(ctx)
	if err == nil {
		err = l.files.publish(ca)
	}
	if err != nil {
		return CACert{}, err
	}
	return CACert{Path: l.files.cert, PEM: ca.CAPEM(), ValidUntil: ca.ValidUntil()}, nil
}

// Listener returns the listener that tunnels share, bound to the port if that
// is free; Serve has it serve. When the port has changed the former listener drains;
// its tunnels must have been stopped. Not to be called by two goroutines at once.
func (l *Local) Listener(ctx context.Context, port int) *kube.Listener {
	if l.listener != nil && l.port == port {
		return l.listener
	}
	l.CloseListener()
	listener := kube.NewListener(kube.ListenerConfig{
		Port: port, Sockets: l.cfg.Sockets, Limits: l.cfg.Limits, CA: l.CA, Grace: l.cfg.Grace, Absent: l.cfg.Absent, Names: l.files.sharing, Logger: l.cfg.Logger, OnChange: l.cfg.OnChange,
	})
	if err := listener.Bind(); err != nil {
		l.cfg.Logger.Warn("port not bound, will retry", "local_port", port, "err", err)
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.listener, l.port = listener, port
	l.serve = sync.OnceFunc(func() {
		l.running.Go(func() { _ = listener.Run(ctx) }) // it returns nil
	})
	return listener
}

// Serve has the listener, if there is one, serve clients. Call it once every tunnel has
// joined it: clients may be queued at the port already. Not to be called by two
// goroutines at once.
func (l *Local) Serve() {
	if l.listener != nil {
		l.serve()
	}
}

// CloseListener closes the listener, if there is one; its port is free when it
// returns. Not to be called by two goroutines at once.
func (l *Local) CloseListener() {
	if l.listener == nil {
		return
	}
	l.stop()
	l.serve() // which closes one that never served
	<-l.listener.Released()
	l.listener, l.stop = nil, nil
}

// Leave gives the listener's place to another process; see kube.Listener.Leave. Not
// to be called while Listener, Serve or CloseListener is.
func (l *Local) Leave(grace time.Duration) {
	if l.listener != nil {
		l.listener.Leave(grace)
	}
}

// Wait returns when every listener has drained; they must have been closed.
func (l *Local) Wait() { l.running.Wait() }
