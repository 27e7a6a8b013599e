package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/secrets"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

func (e *env) caPath() string { return filepath.Join(e.p.StateDir, "kube-ca.pem") }

func (e *env) mustRead(path string) []byte {
	e.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	return data
}

// startVault starts an agent whose local CA may use the keychain.
func (e *env) startVault(k keychain) (stop func()) {
	e.t.Helper()
	return e.startWith(func(a *Agent) { a.kube.files.store.Vault = kubeVault{k} })
}

// awaitKubeconfig waits until the agent's first kubeconfig is there: where a
// keychain has to be asked it comes after the start.
func (e *env) awaitKubeconfig() []byte {
	e.t.Helper()
	for end := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(e.kubeconfig()); err == nil {
			return data
		}
		if time.Now().After(end) {
			e.t.Fatal("there is still no kubeconfig")
		}
	}
}

// TestLocalCAInKeychain has the key of the local CA in a keychain, or in a file
// where that cannot be, and clients that see no difference.
func TestLocalCAInKeychain(t *testing.T) {
	tests := map[string]struct {
		err        error
		inKeychain bool
	}{
		"unlocked": {nil, true},
		"locked":   {&secrets.LockedError{}, false},
		"silent":   {&secrets.LockedError{Asking: true}, false},
		"absent":   {&secrets.NoKeychainError{Err: errors.New("no bus")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := newKubeEnv(t, simcluster.Config{})
			e.login()
			e.kubeConfig(freePort(t), e.kubeTunnel("prod", "prod"))
			k := &fakeKeychain{err: tt.err}
			stop := e.startVault(k)
			before := e.awaitKubeconfig()
			file := e.mustRead(e.caPath())
			e.awaitState("prod", state.TunnelReady)
			get, _ := e.kube("prod")
			if code, body := get(podsPath); code != http.StatusOK {
				t.Errorf("it says %d %s", code, body)
			}
			if inFile := bytes.Count(file, []byte("PRIVATE KEY")) / 2; inFile != 2 {
				t.Errorf("the file has %d keys, want the client's and one more", inFile)
			}
			if tt.inKeychain {
				key, secret := k.only(t)
				der, err := base64.StdEncoding.DecodeString(secret)
				if key.Kind != secrets.KubeCA || err != nil {
					t.Fatalf("the keychain has a secret of kind %s, %v", key.Kind, err)
				}
				if body := base64.StdEncoding.EncodeToString(der); bytes.Contains(bytes.ReplaceAll(file, []byte("\n"), nil), []byte(body)) {
					t.Error("the key in the keychain is in the file too")
				}
				if strings.Contains(e.log.String(), secret) {
					t.Error("the key is in the log")
				}
			}
			stop()

			// Whatever the keychain does later: it is not asked.
			asked := len(k.gets)
			for _, err := range []error{&secrets.LockedError{Asking: true}, nil} {
				k.fail(err)
				stop := e.startVault(k)
				if after := e.mustRead(e.kubeconfig()); !bytes.Equal(after, before) {
					t.Error("after a restart the kubeconfig is another one")
				}
				e.awaitState("prod", state.TunnelReady)
				if code, body := get(podsPath); code != http.StatusOK {
					t.Errorf("after a restart it says %d %s", code, body)
				}
				stop()
			}
			if !bytes.Equal(e.mustRead(e.caPath()), file) || len(k.gets) != asked {
				t.Errorf("the file has changed, or the keychain was asked: %d times", len(k.gets)-asked)
			}
		})
	}
}

// silentKeychain never answers: worse than the real one, which gives up.
type silentKeychain struct {
	fakeKeychain
	asked chan struct{} // capacity 1
	end   chan struct{}
}

func (k *silentKeychain) Set(context.Context, secrets.Key, secrets.Secret) error {
	select {
	case k.asked <- struct{}{}:
	default:
	}
	<-k.end
	return &secrets.LockedError{Asking: true}
}

// TestStartWaitsForNoKeychain starts an agent that has to make its local CA,
// with a keychain that does not answer.
func TestStartWaitsForNoKeychain(t *testing.T) {
	e := newKubeEnv(t, simcluster.Config{})
	e.login()
	item, port := e.pgTunnel("pg")
	kubePort := freePort(t)
	e.kubeConfig(kubePort, item, e.kubeTunnel("prod", "prod"))
	k := &silentKeychain{asked: make(chan struct{}, 1), end: make(chan struct{})}
	e.startVault(k) // returns when the agent is ready
	<-k.asked
	e.awaitState("pg", state.TunnelReady)
	e.mustPG(port)
	e.awaitState("prod", state.TunnelReady)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(kubePort)))
	if err != nil {
		t.Errorf("the port of kube tunnels: %v", err)
	} else {
		conn.Close()
	}
	if _, err := os.Stat(e.kubeconfig()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a kubeconfig already: %v", err)
	}
	began := time.Now()
	if err := e.client().ReloadConfig(t.Context()); err != nil { // waits for the kubeconfig, but not for ever
		t.Error(err)
	}
	if took := time.Since(began); took > wait {
		t.Errorf("a command waited for %v", took)
	}
	close(k.end)
	e.awaitKubeconfig()
	get, _ := e.kube("prod")
	if code, body := get(podsPath); code != http.StatusOK {
		t.Errorf("in the end it says %d %s", code, body)
	}
}

// TestLocalCAOverYears lets twelve years pass.
func TestLocalCAOverYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k := &fakeKeychain{}
		log := &syncBuffer{}
		h := newKubeHub(dir, kubeVault{k}, 0, nil, func() {}, slog.New(slog.NewTextHandler(log, nil)))
		f := h.files
		f.want(&config.Config{Tunnels: []state.TunnelSpec{{Name: "prod", Kind: state.KindKube}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.run(ctx)
		synctest.Wait()
		begin := time.Now()
		at := func(d time.Duration) {
			t.Helper()
			time.Sleep(time.Until(begin.Add(d)))
			synctest.Wait()
		}
		read := func() string {
			t.Helper()
			data, err := os.ReadFile(kubeconfig.Path(dir))
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		serves := func() time.Time {
			t.Helper()
			ca, err := f.localCA()
			if err != nil {
				t.Fatal(err)
			}
			return ca.ServesUntil()
		}
		const day = 24 * time.Hour
		first, served := read(), serves()
		at(200 * day)
		if !serves().After(served) || read() != first || len(f.problems()) != 0 {
			t.Errorf("after 200 days it serves until %v; the kubeconfig is the same: %v", serves(), read() == first)
		}

		// Locked for half a year, and longer.
		k.fail(&secrets.LockedError{})
		at(500 * day)
		if p := f.problems(); len(p) != 0 {
			t.Errorf("long before its end people are told: %+v", p)
		}
		at(550 * day)
		p := f.problems()
		if len(p) != 1 || p[0].Code != state.CodeKubeconfig || !strings.Contains(p[0].Text, "locked") || !strings.Contains(p[0].Action, "unlock") {
			t.Errorf("near its end the problems are %+v", p)
		}
		k.fail(nil)
		at(550*day + 2*time.Hour)
		if p := f.problems(); len(p) != 0 || read() != first {
			t.Errorf("unlocked, the problems are %+v; the kubeconfig is the same: %v", p, read() == first)
		}

		// Deleted by a person: noticed when it is needed.
		k.mu.Lock()
		clear(k.kept)
		k.mu.Unlock()
		at(600 * day)
		if read() != first {
			t.Error("another CA although the one there is serves")
		}
		at(800 * day)
		second := read()
		if second == first || time.Until(serves()) < 100*day {
			t.Errorf("without its key the CA goes on, and serves until %v", serves())
		}
		k.only(t)

		at(800*day + 9*365*day)
		if read() != second {
			t.Error("another CA before its time")
		}
		at(12 * 366 * day)
		if third := read(); third == second || time.Until(serves()) < 100*day {
			t.Errorf("the CA was not made anew; it serves until %v", serves())
		}
		key, _ := k.only(t) // the former key is gone
		ca, err := kube.CAStore{File: f.store.File}.Open()
		if err != nil || time.Until(ca.ServesUntil()) < 100*day || key.CA == "" {
			t.Errorf("what is on disk: %v", err)
		}
	})
}

// TestKubeconfigIsTriedAgain makes the folder writable again, and nothing else.
func TestKubeconfigIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in the folder's place
			t.Fatal(err)
		}
		f := newKubeHub(dir, nil, 0, nil, func() {}, slog.New(slog.DiscardHandler)).files
		f.want(&config.Config{Tunnels: []state.TunnelSpec{{Name: "prod", Kind: state.KindKube}}})
		f.start(t.Context())
		if p := f.problems(); len(p) != 1 || p[0].Code != state.CodeKubeconfig {
			t.Fatalf("the problems are %+v", p)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.run(ctx)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if p := f.problems(); len(p) != 0 || !kubeconfig.Exists(f.path) {
			t.Errorf("two minutes later the problems are %+v", p)
		}
	})
}
