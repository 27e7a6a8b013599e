package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/agent/kubelocal"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func (e *env) caPath() string { return filepath.Join(e.Paths.StateDir, "kube-ca.pem") }

func (e *env) mustRead(path string) []byte {
	e.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	return data
}

// startVault starts an agent whose local CA may use the keychain.
func (e *env) startVault(k kubelocal.Keychain) (stop func()) {
	e.t.Helper()
	return e.startOptions(func(o *Options) { o.caKeychain = k }, func(*Agent) {})
}

// awaitKubeconfig waits until the agent's first kubeconfig is there: where a
// keychain has to be asked it comes after the start.
func (e *env) awaitKubeconfig() []byte {
	e.t.Helper()
	var data []byte
	testwait.Eventually(e.t, "there is a kubeconfig", func() bool {
		var err error
		data, err = os.ReadFile(e.kubeconfig())
		return err == nil
	})
	return data
}

// TestLocalCAInKeychain has the key of the local CA in a keychain, or in a file
// where that cannot be, and clients that see no difference.
func TestLocalCAInKeychain(t *testing.T) {
	testneeds.Time(t, "each case starts an agent and a kubectl")
	t.Parallel()
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
			e.Login()
			e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod"))
			k := &secretstest.Keychain{}
			k.Fail(tt.err)
			stop := e.startVault(k)
			before := e.awaitKubeconfig()
			file := e.mustRead(e.caPath())
			e.AwaitState("prod", state.TunnelReady)
			get, _ := e.kube("prod")
			if code, body := get(podsPath); code != http.StatusOK {
				t.Errorf("it says %d %s", code, body)
			}
			if inFile := bytes.Count(file, []byte("PRIVATE KEY")) / 2; inFile != 2 {
				t.Errorf("the file has %d keys, want the client's and one more", inFile)
			}
			if tt.inKeychain {
				key, secret := k.Only(t)
				der, err := base64.StdEncoding.DecodeString(secret)
				if key.Kind != secrets.KubeCA || err != nil {
					t.Fatalf("the keychain has a secret of kind %s, %v", key.Kind, err)
				}
				if body := base64.StdEncoding.EncodeToString(der); bytes.Contains(bytes.ReplaceAll(file, []byte("\n"), nil), []byte(body)) {
					t.Error("the key in the keychain is in the file too")
				}
				if strings.Contains(e.Log.String(), secret) {
					t.Error("the key is in the log")
				}
			}
			stop()

			// Whatever the keychain does later: it is not asked.
			asked := len(k.Asked())
			for _, err := range []error{&secrets.LockedError{Asking: true}, nil} {
				k.Fail(err)
				stop := e.startVault(k)
				if after := e.mustRead(e.kubeconfig()); !bytes.Equal(after, before) {
					t.Error("after a restart the kubeconfig is another one")
				}
				e.AwaitState("prod", state.TunnelReady)
				if code, body := get(podsPath); code != http.StatusOK {
					t.Errorf("after a restart it says %d %s", code, body)
				}
				stop()
			}
			if !bytes.Equal(e.mustRead(e.caPath()), file) || len(k.Asked()) != asked {
				t.Errorf("the file has changed, or the keychain was asked: %d times", len(k.Asked())-asked)
			}
		})
	}
}

// silentKeychain never answers: worse than the real one, which gives up.
type silentKeychain struct {
	secretstest.Keychain
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
	testneeds.Time(t, "a keychain that does not answer is waited for")
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	kubePort := simworld.FreePort(t)
	e.kubeConfig(kubePort, item, e.kubeTunnel("prod", "prod"))
	k := &silentKeychain{asked: make(chan struct{}, 1), end: make(chan struct{})}
	e.startVault(k) // returns when the agent is ready
	<-k.asked
	e.AwaitState("pg", state.TunnelReady)
	e.mustPG(port)
	e.AwaitState("prod", state.TunnelReady)
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
	if err := e.Client().ReloadConfig(t.Context()); err != nil { // waits for the kubeconfig, but not for ever
		t.Error(err)
	}
	testwait.Soon(t, "a command", time.Since(began), 15*time.Second)
	close(k.end)
	e.awaitKubeconfig()
	get, _ := e.kube("prod")
	if code, body := get(podsPath); code != http.StatusOK {
		t.Errorf("in the end it says %d %s", code, body)
	}
}
