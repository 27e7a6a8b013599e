package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

// kubeHub is what the tunnels to Kubernetes share: the listener, and the files
// by which clients know it.
type kubeHub struct {
	files  *kubeFiles
	grace  time.Duration
	absent func(serverName string) kube.Refusal
	touch  func()
	log    *slog.Logger

	mu       sync.Mutex     // guards everything below
	listener *kube.Listener // nil while no tunnel needs it
	port     int            // of the listener
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// newKubeHub returns the hub of an agent; keys go into files where vault is nil.
func newKubeHub(stateDir string, vault kube.Vault, grace time.Duration, absent func(string) kube.Refusal, touch func(), log *slog.Logger) *kubeHub {
	return &kubeHub{
		files: &kubeFiles{
			store: kube.CAStore{File: kube.FileStore(filepath.Join(stateDir, "kube-ca.pem")), Vault: vault},
			path:  kubeconfig.Path(stateDir), touch: touch, log: log,
			asked: make(chan struct{}, 1), moved: make(chan struct{}),
		},
		grace: grace, absent: absent, touch: touch, log: log,
	}
}

// shared returns the listener that tunnels share, bound to the port if it is
// free. When the port has changed the former listener drains; its tunnels must
// have been stopped.
func (h *kubeHub) shared(ctx context.Context, port int) *kube.Listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listener != nil && h.port == port {
		return h.listener
	}
	h.closeLocked()
	l := kube.NewListener(kube.ListenerConfig{
		Port: port, CA: h.files.localCA, Grace: h.grace, Absent: h.absent, Logger: h.log, OnChange: h.touch,
	})
	if err := l.Bind(); err != nil {
		h.log.Warn("port not bound, will retry", "local_port", port, "err", err)
	}
	ctx, h.stop = context.WithCancel(ctx)
	h.listener, h.port = l, port
	h.running.Go(func() {
		_ = l.Run(ctx) // it returns nil
	})
	return l
}

// closeLocked lets the listener go; its port is free when it returns.
func (h *kubeHub) closeLocked() {
	if h.listener == nil {
		return
	}
	h.stop()
	<-h.listener.Released()
	h.listener, h.stop = nil, nil
}

// close ends the listener, if no tunnel needs it.
func (h *kubeHub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closeLocked()
}
