package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/state"
	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

// kubeHub is what the tunnels to Kubernetes share: the local CA, the listener
// and the kubeconfig.
type kubeHub struct {
	store  kube.KeyStore
	path   string // of the kubeconfig
	grace  time.Duration
	absent func(serverName string) kube.Refusal
	touch  func()
	log    *slog.Logger

	mu       sync.Mutex // guards everything below
	ca       *kube.LocalCA
	listener *kube.Listener // nil while no tunnel needs it
	port     int            // of the listener
	stop     context.CancelFunc
	problem  *state.Problem // with the kubeconfig
	running  sync.WaitGroup
}

func newKubeHub(stateDir string, grace time.Duration, absent func(string) kube.Refusal, touch func(), log *slog.Logger) *kubeHub {
	return &kubeHub{
		store: kube.FileStore(filepath.Join(stateDir, "kube-ca.pem")), path: kubeconfig.Path(stateDir),
		grace: grace, absent: absent, touch: touch, log: log,
	}
}

// localCA opens the local CA, once it can be.
func (h *kubeHub) localCA() (*kube.LocalCA, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ca == nil {
		ca, err := kube.OpenLocalCA(h.store)
		if err != nil {
			return nil, err
		}
		h.ca = ca
	}
	return h.ca, nil
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
		Port: port, CA: h.localCA, Grace: h.grace, Absent: h.absent, Logger: h.log, OnChange: h.touch,
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

// writeConfig brings the kubeconfig in line with the tunnels. While there is
// none, no file is made.
func (h *kubeHub) writeConfig(cfg *config.Config) {
	err := h.tryWrite(cfg)
	if err != nil {
		h.log.Warn("kubeconfig not written", "path", h.path, "err", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problem = nil
	if err != nil {
		h.problem = &state.Problem{
			Code: state.CodeKubeconfig, Title: "Kubeconfig not written",
			Text:   fmt.Sprintf("The kubeconfig %s is not up to date: %v.", h.path, err),
			Action: "make the folder writable; berth writes it at the next change of the config or restart of the agent",
		}
	}
}

func (h *kubeHub) tryWrite(cfg *config.Config) error {
	tunnels := kubeTunnels(cfg)
	if len(tunnels) == 0 && !kubeconfig.Exists(h.path) {
		return nil
	}
	ca, err := h.localCA()
	if err != nil {
		return err
	}
	cert, key := ca.ClientPEM()
	contexts := make([]kubeconfig.Context, 0, len(tunnels))
	for _, t := range tunnels {
		contexts = append(contexts, kubeconfig.Context{
			Name: t.Name, Server: fmt.Sprintf("https://127.0.0.1:%d", kubePort(cfg, t)), ServerName: kube.ServerName(t.Name),
			CA: ca.CAPEM(), ClientCert: cert, ClientKey: key,
		})
	}
	return kubeconfig.Write(h.path, kubeconfig.Marshal(contexts))
}

// problems are those with the kubeconfig.
func (h *kubeHub) problems() []state.Problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problem == nil {
		return nil
	}
	return []state.Problem{*h.problem}
}
