package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/secrets"
	"berth/agent/state"
	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

const (
	// kubeFilesEvery is how often it is looked whether a cert nears its end,
	// and kubeFilesRetry how soon after something failed.
	kubeFilesEvery = time.Hour
	kubeFilesRetry = time.Minute
	// kubeFilesWait bounds how long a command waits for the kubeconfig: longer
	// than a keychain may take.
	kubeFilesWait = 5 * time.Second
	// renewLate is how long before the end of a cert that is not renewed
	// people are told.
	renewLate = 30 * 24 * time.Hour
)

// kubeFiles keeps the local CA and the kubeconfig in line with the config. Who
// may have to wait for a keychain is its goroutine, and nobody else.
type kubeFiles struct {
	store kube.CAStore
	path  string // of the kubeconfig
	touch func()
	log   *slog.Logger
	asked chan struct{} // capacity 1: wanted is another one

	mu      sync.Mutex     // guards everything below
	ca      *kube.LocalCA  // nil until it was opened or made
	wanted  *config.Config // what the kubeconfig is to say
	changes int            // of wanted
	done    int            // the changes that were acted on
	moved   chan struct{}  // closed and replaced when done moves
	unsaved *state.Problem // the kubeconfig is not up to date
	ending  *state.Problem // a cert nears its end
}

// localCA returns the local CA if it needs nothing but the disk for that.
func (k *kubeFiles) localCA() (*kube.LocalCA, error) {
	k.mu.Lock()
	ca := k.ca
	k.mu.Unlock()
	if ca != nil {
		return ca, nil
	}
	ca, err := k.store.Open()
	if err != nil {
		return nil, err
	}
	return k.use(ca, nil), nil
}

// use makes ca the one in use, in place of old; if that is not the one in use
// any more, it returns the one that is.
func (k *kubeFiles) use(ca, old *kube.LocalCA) *kube.LocalCA {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca == old {
		k.ca = ca
	}
	return k.ca
}

// want says what the kubeconfig is to say from now on.
func (k *kubeFiles) want(cfg *config.Config) {
	k.mu.Lock()
	k.wanted = cfg
	k.changes++
	k.mu.Unlock()
	select {
	case k.asked <- struct{}{}:
	default: // already asked
	}
}

// start does what needs no keychain, before run is called.
func (k *kubeFiles) start(ctx context.Context) {
	if _, err := k.localCA(); k.store.Vault != nil && errors.Is(err, fs.ErrNotExist) {
		return // run makes one
	}
	k.settle(ctx)
}

// run does all the rest until ctx ends.
func (k *kubeFiles) run(ctx context.Context) {
	for {
		every := kubeFilesEvery
		if !k.settle(ctx) || !k.renew(ctx) {
			every = kubeFilesRetry
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.asked:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// settled waits until what was wanted is done, or could not be, for a while.
func (k *kubeFiles) settled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, kubeFilesWait)
	defer cancel()
	k.mu.Lock()
	changes := k.changes
	k.mu.Unlock()
	for {
		k.mu.Lock()
		done, moved := k.done, k.moved
		k.mu.Unlock()
		if done >= changes {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// settle brings the kubeconfig in line with what is wanted, and reports whether
// it is.
func (k *kubeFiles) settle(ctx context.Context) bool {
	k.mu.Lock()
	cfg, changes, idle := k.wanted, k.changes, k.changes == k.done && k.unsaved == nil
	k.mu.Unlock()
	if idle {
		return true
	}
	err := k.write(ctx, cfg)
	if ctx.Err() != nil {
		return true // the agent ends
	}
	var problem *state.Problem
	if err != nil {
		k.log.Warn("kubeconfig not written", "path", k.path, "err", err)
		problem = &state.Problem{
			Code: state.CodeKubeconfig, Title: "Kubeconfig not written",
			Text:   fmt.Sprintf("The kubeconfig %s is not up to date: %v.", k.path, err),
			Action: "make the folder writable; berth tries again every minute",
		}
	}
	k.mu.Lock()
	k.unsaved, k.done = problem, changes
	close(k.moved)
	k.moved = make(chan struct{})
	k.mu.Unlock()
	k.touch()
	return err == nil
}

// write writes the kubeconfig. While there is no tunnel and no file, none is
// made.
func (k *kubeFiles) write(ctx context.Context, cfg *config.Config) error {
	tunnels := kubeTunnels(cfg)
	if len(tunnels) == 0 {
		if !kubeconfig.Exists(k.path) {
			return nil
		}
		return kubeconfig.Write(k.path, kubeconfig.Marshal(nil))
	}
	ca, err := k.localCA()
	if errors.Is(err, fs.ErrNotExist) {
		if ca, err = k.store.Make(ctx); err == nil {
			k.log.Info("local CA made", "why", "there was none")
			ca = k.use(ca, nil)
		}
	}
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
	return kubeconfig.Write(k.path, kubeconfig.Marshal(contexts))
}

// renew renews what nears its end, and reports whether nothing does any more.
func (k *kubeFiles) renew(ctx context.Context) bool {
	k.mu.Lock()
	ca := k.ca
	k.mu.Unlock()
	if ca == nil {
		return true
	}
	renewed, err := k.store.Renew(ctx, ca)
	if ctx.Err() != nil {
		return true // the agent ends
	}
	var problem *state.Problem
	if err != nil {
		k.log.Warn("local certificate not renewed, will retry", "valid_until", ca.ServesUntil(), "err", err)
		problem = endingProblem(ca, err)
	}
	k.mu.Lock()
	k.ending = problem
	k.mu.Unlock()
	k.touch()
	if err == nil && renewed != ca {
		k.log.Info("local certificate renewed", "valid_until", renewed.ServesUntil())
		k.use(renewed, ca)
		k.mu.Lock()
		k.changes++ // the kubeconfig may have to say another CA
		k.mu.Unlock()
		return k.settle(ctx)
	}
	// What could not be renewed has half a year: an hour is soon enough.
	return true
}

// endingProblem is for those who would find out soon; nil means not yet.
func endingProblem(ca *kube.LocalCA, err error) *state.Problem {
	until := ca.ServesUntil()
	if time.Until(until) > renewLate {
		return nil
	}
	p := &state.Problem{
		Code: state.CodeKubeconfig, Title: "Local certificate not renewed",
		Text: fmt.Sprintf("The certificate that Kubernetes clients see on this machine ends on %s: %v.",
			until.Local().Format(time.DateOnly), err),
		Action: "berth tries again every hour",
	}
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		p.Action = hinter.Hint() + "; berth looks again every hour"
	}
	return p
}

// problems are those with the files.
func (k *kubeFiles) problems() []state.Problem {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []state.Problem
	for _, p := range []*state.Problem{k.unsaved, k.ending} {
		if p != nil {
			list = append(list, *p)
		}
	}
	return list
}

// kubeVault is where the local CA's key is kept: in the keychain, which an agent
// with a BERTH_HOME of its own leaves alone.
func (a *Agent) kubeVault() kube.Vault {
	if a.opts.Paths.Home != "" {
		return nil
	}
	return kubeVault{a.keychain}
}

// kubeVault keeps the local CA's key in the keychain.
type kubeVault struct{ keychain keychain }

// Get returns the key.
func (v kubeVault) Get(ctx context.Context, ca string) ([]byte, error) {
	text, err := v.keychain.Get(ctx, caKey(ca))
	if errors.Is(err, secrets.ErrNotStored) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text.Reveal())
	if err != nil { // and it must not be in an error
		return nil, fmt.Errorf("%w: what the keychain has is no key", fs.ErrNotExist)
	}
	return key, nil
}

// Set keeps the key.
func (v kubeVault) Set(ctx context.Context, ca string, key []byte) error {
	return v.keychain.Set(ctx, caKey(ca), secrets.NewSecret(base64.StdEncoding.EncodeToString(key)))
}

// Delete forgets the key.
func (v kubeVault) Delete(ctx context.Context, ca string) error {
	return v.keychain.Delete(ctx, caKey(ca))
}

func caKey(ca string) secrets.Key { return secrets.Key{Kind: secrets.KubeCA, CA: ca} }
