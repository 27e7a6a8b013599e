package kubelocal

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/state"
	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

// TestLocalCAOverYears lets twelve years pass.
func TestLocalCAOverYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k := &secretstest.Keychain{}
		f := New(Config{StateDir: dir, Keychain: k, OnChange: func() {}, Logger: slog.New(slog.DiscardHandler)}).files
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
		k.Fail(&secrets.LockedError{})
		at(500 * day)
		if p := f.problems(); len(p) != 0 {
			t.Errorf("long before its end people are told: %+v", p)
		}
		at(550 * day)
		p := f.problems()
		if len(p) != 1 || p[0].Code != state.CodeKubeconfig || !strings.Contains(p[0].Text, "locked") || !strings.Contains(p[0].Action, "unlock") {
			t.Errorf("near its end the problems are %+v", p)
		}
		k.Fail(nil)
		at(550*day + 2*time.Hour)
		if p := f.problems(); len(p) != 0 || read() != first {
			t.Errorf("unlocked, the problems are %+v; the kubeconfig is the same: %v", p, read() == first)
		}

		// Deleted by a person: noticed when it is needed.
		k.Clear()
		at(600 * day)
		if read() != first {
			t.Error("another CA although the one there is serves")
		}
		at(800 * day)
		second := read()
		if second == first || time.Until(serves()) < 100*day {
			t.Errorf("without its key the CA goes on, and serves until %v", serves())
		}
		k.Only(t)

		at(800*day + 9*365*day)
		if read() != second {
			t.Error("another CA before its time")
		}
		at(12 * 366 * day)
		if third := read(); third == second || time.Until(serves()) < 100*day {
			t.Errorf("the CA was not replaced; it serves until %v", serves())
		}
		key, _ := k.Only(t) // the former key is gone
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
		f := New(Config{StateDir: dir, OnChange: func() {}, Logger: slog.New(slog.DiscardHandler)}).files
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

// TestCAForOtherTunnels has a client ask for TLS where no tunnel to Kubernetes
// ever needed a CA.
func TestCAForOtherTunnels(t *testing.T) {
	for name, k := range map[string]*secretstest.Keychain{"keychain": {}, "locked": locked()} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			l := New(Config{StateDir: dir, Keychain: k, OnChange: func() {}, Logger: slog.New(slog.DiscardHandler)})
			l.Start(t.Context(), &config.Config{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go l.Run(ctx)
			synctest.Wait()
			if _, err := l.CA(); err == nil {
				t.Errorf("%s: there is a CA before anything needs one", name)
			}
			cert, err := l.ServerCert(t.Context())
			if err != nil || cert.Leaf.VerifyHostname("127.0.0.1") != nil {
				t.Fatalf("%s: no certificate for 127.0.0.1: %v", name, err)
			}
			public, err := l.CACert(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(public.Path)
			if err != nil || string(data) != string(public.PEM) || strings.Contains(string(data), "KEY") {
				t.Errorf("%s: %s has %q, %v", name, public.Path, data, err)
			}
		})
	}
}

// TestCAThatCannotBeMade has the state folder's place taken: an error at once.
func TestCAThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		l := New(Config{StateDir: dir, OnChange: func() {}, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l.Start(ctx, &config.Config{})
		go l.Run(ctx)
		synctest.Wait()
		if err := os.Mkdir(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "kube-ca.pem"), 0o700); err != nil { // in the file's place, also for root
			t.Fatal(err)
		}
		began := time.Now()
		if cert, err := l.ServerCert(ctx); err == nil {
			t.Errorf("there is a certificate: %v", cert.Leaf.Subject)
		}
		if took := time.Since(began); took >= settleWait {
			t.Errorf("it took %v to say so", took)
		}
	})
}

func locked() *secretstest.Keychain {
	k := &secretstest.Keychain{}
	k.Fail(&secrets.LockedError{})
	return k
}
