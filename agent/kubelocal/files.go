package kubelocal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/ports"
	"berth/agent/secrets"
	"berth/agent/state"
	"berth/internal/atomicfile"
	"berth/internal/survive"
	"berth/internal/wake"
	"berth/internal/when"
	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

const (
	// lookEvery is how often berth looks whether a cert is about to expire, and
	// retryEvery how soon after a failure.
	lookEvery  = time.Hour
	retryEvery = time.Minute
	// settleWait bounds how long a command waits for the kubeconfig: longer
	// than a keychain may take.
	settleWait = 5 * time.Second
	// renewLate is how long before an unrenewed cert expires the user is
	// warned.
	renewLate = 30 * 24 * time.Hour
)

// files keeps the local CA and the kubeconfig in line with the config. Only its
// own goroutine, in run, may block on the keychain.
type files struct {
	store kube.CAStore
	path  string // of the kubeconfig
	cert  string // the file of the CA's cert, for clients
	touch func()
	log   *slog.Logger
	asked wake.Signal    // wanted has changed
	moved wake.Broadcast // done has changed

	mu      sync.Mutex     // guards everything below; never held over disk or keychain
	ca      *kube.LocalCA  // nil until it was opened or made
	needed  bool           // a client needs the CA
	made    error          // why there is none though it is needed
	wanted  *config.Config // what the kubeconfig is to say
	changes int            // of wanted
	done    int            // the changes that were acted on
	unsaved *state.Problem // the kubeconfig is not up to date
	ending  *state.Problem // a cert nears its end
}

// localCA returns the local CA, made or read, if the disk alone is enough for that.
func (k *files) localCA() (*kube.LocalCA, error) {
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

// use puts ca to use in place of old; if old is no longer in use it returns the
// CA that is.
func (k *files) use(ca, old *kube.LocalCA) *kube.LocalCA {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca == old {
		k.ca = ca
	}
	return k.ca
}

// ensure returns the local CA. If there is none it waits, for some seconds at
// most, until run has made one.
func (k *files) ensure(ctx context.Context) (*kube.LocalCA, error) {
	ca, err := k.localCA()
	if !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	k.mu.Lock()
	k.needed, k.made = true, nil
	k.mu.Unlock()
	k.asked.Wake()
	k.moved.Until(ctx, settleWait, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.ca != nil || k.made != nil
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca != nil {
		return k.ca, nil
	}
	return nil, cmp.Or(k.made, err)
}

// make makes the CA that clients need, if there is none.
func (k *files) make(ctx context.Context) {
	k.mu.Lock()
	needed := k.needed && k.ca == nil
	k.needed = false
	k.mu.Unlock()
	if !needed {
		return
	}
	ca, err := k.store.Make(ctx)
	if err != nil {
		k.log.Warn("local CA not made", "err", err)
		k.mu.Lock()
		k.made = err
		k.mu.Unlock()
	} else {
		k.log.Info("local CA made", "why", "a client needs it")
		k.use(ca, nil)
	}
	k.moved.Wake()
}

// publish writes the CA's cert to the file that clients are given, unless it is
// there.
func (k *files) publish(ca *kube.LocalCA) error {
	want := ca.CAPEM()
	if have, err := os.ReadFile(k.cert); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(k.cert), 0o700); err != nil {
		return fmt.Errorf("save the local CA's certificate: %w", err)
	}
	return atomicfile.Write(k.cert, want, 0o600)
}

// want makes cfg the config that the kubeconfig follows.
func (k *files) want(cfg *config.Config) {
	k.mu.Lock()
	k.wanted = cfg
	k.changes++
	k.mu.Unlock()
	k.asked.Wake()
}

// sharing returns the tunnels that have no port of their own.
func (k *files) sharing() []string {
	k.mu.Lock()
	cfg := k.wanted
	k.mu.Unlock()
	var names []string
	for _, t := range ports.KubeTunnels(cfg) {
		if t.Port == 0 {
			names = append(names, t.Name)
		}
	}
	return names
}

// start does what needs no keychain, before run is called.
func (k *files) start(ctx context.Context) {
	if _, err := k.localCA(); k.store.Vault != nil && errors.Is(err, fs.ErrNotExist) {
		return // run makes one
	}
	k.settle(ctx)
}

// run does all the rest until ctx ends.
func (k *files) run(ctx context.Context) {
	for {
		every := retryEvery
		_ = survive.Do(k.log, "keep Kubernetes' files", func() error { // it is logged, and tried again
			k.make(ctx)
			if k.settle(ctx) && k.renew(ctx) {
				every = lookEvery
			}
			return nil
		})
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
func (k *files) settled(ctx context.Context) {
	k.mu.Lock()
	changes := k.changes
	k.mu.Unlock()
	k.moved.Until(ctx, settleWait, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.done >= changes
	})
}

// settle brings the kubeconfig in line with what is wanted, and reports whether
// it is.
func (k *files) settle(ctx context.Context) bool {
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
	k.mu.Unlock()
	k.moved.Wake()
	k.touch()
	return err == nil
}

// write writes the kubeconfig. While there is no tunnel and no file, none is
// made.
func (k *files) write(ctx context.Context, cfg *config.Config) error {
	tunnels := ports.KubeTunnels(cfg)
	if len(tunnels) == 0 {
		if !kubeconfig.Exists(k.path) {
			return nil
		}
		return kubeconfig.Update(ctx, k.path, nil)
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
			Name: t.Name, Server: serverURL(cfg, t), ServerName: kube.ServerName(t.Name),
			CA: ca.CAPEM(), ClientCert: cert, ClientKey: key,
		})
	}
	return kubeconfig.Update(ctx, k.path, contexts)
}

// serverURL is what clients are to call. On a port that tunnels share, the path
// says which tunnel to clients that leave out the server name.
func serverURL(cfg *config.Config, t state.TunnelSpec) string {
	url := fmt.Sprintf("https://127.0.0.1:%d", ports.Kube(cfg, t))
	if t.Port == 0 {
		url += kube.PathOf(t.Name)
	}
	return url
}

// renew renews what nears its end, and reports whether nothing does any more.
func (k *files) renew(ctx context.Context) bool {
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
		if err := k.publish(renewed); err != nil {
			k.log.Warn("certificate file not written", "path", k.cert, "err", err)
		}
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
			when.Format(until, time.DateOnly), err),
		Action: "berth tries again every hour",
	}
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		p.Action = hinter.Hint() + "; berth looks again every hour"
	}
	return p
}

// problems are those with the files.
func (k *files) problems() []state.Problem {
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

// vault keeps the local CA's key in the keychain; it is a kube.Vault.
type vault struct{ keychain Keychain }

// Keychain holds the key of the local CA; a *secrets.Store.
type Keychain interface {
	Get(ctx context.Context, k secrets.Key) (secrets.Secret, error)
	Set(ctx context.Context, k secrets.Key, s secrets.Secret) error
	Delete(ctx context.Context, k secrets.Key) error
}

func (v vault) Get(ctx context.Context, ca string) ([]byte, error) {
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

func (v vault) Set(ctx context.Context, ca string, key []byte) error {
	return v.keychain.Set(ctx, caKey(ca), secrets.NewSecret(base64.StdEncoding.EncodeToString(key)))
}

func (v vault) Delete(ctx context.Context, ca string) error {
	return v.keychain.Delete(ctx, caKey(ca))
}

func caKey(ca string) secrets.Key { return secrets.Key{Kind: secrets.KubeCA, CA: ca} }
