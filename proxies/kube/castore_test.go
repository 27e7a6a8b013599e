package kube

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// memVault is a Vault in memory.
type memVault struct {
	err  error // of every call
	keys map[string][]byte
	gets int
}

func (v *memVault) Get(_ context.Context, ca string) ([]byte, error) {
	v.gets++
	if v.err != nil {
		return nil, v.err
	}
	key, ok := v.keys[ca]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return key, nil
}

func (v *memVault) Set(_ context.Context, ca string, key []byte) error {
	if v.err != nil {
		return v.err
	}
	if v.keys == nil {
		v.keys = make(map[string][]byte)
	}
	v.keys[ca] = key
	return nil
}

func (v *memVault) Delete(_ context.Context, ca string) error {
	if v.err != nil {
		return v.err
	}
	delete(v.keys, ca)
	return nil
}

var errLocked = errors.New("the vault is locked")

func mustMake(t *testing.T, s CAStore) *LocalCA {
	t.Helper()
	ca, err := s.Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func mustOpen(t *testing.T, s CAStore) *LocalCA {
	t.Helper()
	ca, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// same reports whether kubeconfigs made with one CA go on with the other.
func same(a, b *LocalCA) bool {
	certA, keyA := a.ClientPEM()
	certB, keyB := b.ClientPEM()
	return bytes.Equal(a.CAPEM(), b.CAPEM()) && bytes.Equal(certA, certB) && bytes.Equal(keyA, keyB)
}

func TestLocalCAIsKept(t *testing.T) {
	for name, vault := range map[string]*memVault{"file": nil, "vault": {}} {
		t.Run(name, func(t *testing.T) {
			file := FileStore(filepath.Join(t.TempDir(), "state", "kube-ca.pem"))
			store := CAStore{File: file}
			if vault != nil {
				store.Vault = vault
			}
			if _, err := store.Open(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open() before anything = %v", err)
			}
			a := mustMake(t, store)
			info, err := os.Stat(string(file))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file has mode %v, %v", info.Mode(), err)
			}
			b := mustOpen(t, store)
			if !same(a, b) {
				t.Error("the second time it is another CA")
			}
			if again, err := store.Renew(t.Context(), b); err != nil || again != b {
				t.Errorf("Renew() of a new CA = another one: %v, %v", again != b, err)
			}
			data, err := file.Load()
			if err != nil {
				t.Fatal(err)
			}
			secret, err := encodeKey(caKeyOf(t, store, a))
			if err != nil {
				t.Fatal(err)
			}
			if inFile := bytes.Contains(data, secret); inFile != (vault == nil) {
				t.Errorf("the CA's key is in the file: %v", inFile)
			}
		})
	}
}

func caKeyOf(t *testing.T, s CAStore, ca *LocalCA) crypto.Signer {
	t.Helper()
	if ca.caKey != nil {
		return ca.caKey
	}
	key, err := s.keyOf(t.Context(), ca)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestLocalCAIsMadeAnew opens what is no CA, not one any more, or not its own.
func TestLocalCAIsMadeAnew(t *testing.T) {
	made := func(at time.Time) *LocalCA {
		ca, err := newLocalCA(at)
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	fresh, other := made(time.Now()), made(time.Now())
	old, ended := made(time.Now().Add(-caLife+caRenew-time.Hour)), made(time.Now().Add(-caLife-time.Hour))
	pemOf := func(l *LocalCA) []byte {
		data, err := l.marshal()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	vaulted := func(l *LocalCA, signer *LocalCA) []byte {
		server, err := signer.signServer(signer.caKey, keptLife)
		if err != nil {
			t.Fatal(err)
		}
		l = l.with(server)
		l.caKey = nil
		return pemOf(l)
	}
	mixed := &LocalCA{caPEM: fresh.caPEM, caKey: fresh.caKey, clientPEM: other.clientPEM, keyPEM: other.keyPEM}
	swapped := &LocalCA{caPEM: fresh.caPEM, caKey: fresh.caKey, clientPEM: fresh.clientPEM, keyPEM: other.keyPEM}
	good := vaulted(fresh, fresh)
	tests := map[string]struct {
		kept []byte
		anew bool
	}{
		"good":               {pemOf(fresh), false},
		"near_its_end":       {pemOf(old), true},
		"ended":              {pemOf(ended), true},
		"nothing":            {nil, true},
		"empty":              {[]byte{}, true},
		"cut_short":          {pemOf(fresh)[:1500], true},
		"other_client":       {pemOf(mixed), true},
		"other_key":          {pemOf(swapped), true},
		"not_pem":            {[]byte("hello"), true},
		"client_is_ca":       {append(append([]byte{}, pemOf(fresh)[bytes.Index(pemOf(fresh), fresh.clientPEM):]...), pemOf(fresh)...), true},
		"trailing_junk":      {append(pemOf(fresh), "junk"...), false},
		"vault_good":         {good, false},
		"vault_cut_short":    {good[:len(good)-200], true},
		"vault_other_server": {vaulted(fresh, other), true},
		"vault_server_gone":  {good[:bytes.LastIndex(good, []byte("-----BEGIN CERT"))], true},
		"vault_no_ca":        {append(bytes.Repeat(fresh.clientPEM, 2), good[len(fresh.caPEM)+len(fresh.clientPEM):]...), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := &memStore{data: tt.kept}
			store := CAStore{File: file}
			ca, err := store.Open()
			switch {
			case errors.Is(err, fs.ErrNotExist):
				ca = mustMake(t, store)
			case err != nil:
				t.Fatal(err)
			default:
				if ca, err = store.Renew(t.Context(), ca); err != nil {
					t.Fatal(err)
				}
			}
			if anew := file.saves == 1; anew != tt.anew {
				t.Errorf("replaced: %v, want %v", anew, tt.anew)
			}
			if !same(mustOpen(t, store), ca) {
				t.Error("what was kept is another")
			}
		})
	}
	file := &memStore{data: pemOf(fresh), err: errors.New("permission denied")}
	if _, err := (CAStore{File: file}).Open(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a CA that cannot be read now is as good as none: %v", err)
	}
}

// TestVaultIsAskedOnce decides where the key goes when the CA is made, and never
// again.
func TestVaultIsAskedOnce(t *testing.T) {
	vault := &memVault{err: errLocked}
	file := &memStore{}
	store := CAStore{File: file, Vault: vault}
	ca := mustMake(t, store)
	if !ca.keyInFile() || !mustOpen(t, store).keyInFile() {
		t.Error("a locked vault has the key")
	}
	vault.err = nil
	if again, err := store.Renew(t.Context(), mustOpen(t, store)); err != nil || !same(again, ca) {
		t.Errorf("Renew() = another CA, %v", err)
	}
	old, err := newLocalCA(time.Now().Add(-caLife + caRenew - time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := store.Renew(t.Context(), old)
	if err != nil || same(renewed, old) || !renewed.keyInFile() {
		t.Errorf("near its end Renew() = the same: %v, in the file: %v, %v", same(renewed, old), renewed.keyInFile(), err)
	}
	if len(vault.keys) != 0 || vault.gets != 0 {
		t.Errorf("the vault has %d keys and was asked %d times, want neither", len(vault.keys), vault.gets)
	}
}

// TestRenewWithVault lets the listeners' cert near its end, and the CA itself.
func TestRenewWithVault(t *testing.T) {
	tests := map[string]struct {
		serverLeft time.Duration // of the listeners' cert
		caLeft     time.Duration
		vault      func(v *memVault)
		fails      bool
		sameCA     bool
		inFile     bool
	}{
		"not_due":                 {keptRenew + time.Hour, caLife, func(v *memVault) { v.err = errors.New("must not be asked") }, false, true, false},
		"due":                     {keptRenew - time.Hour, caLife, func(*memVault) {}, false, true, false},
		"due_and_locked":          {keptRenew - time.Hour, caLife, func(v *memVault) { v.err = errLocked }, true, true, false},
		"ended_and_locked":        {-time.Hour, caLife, func(v *memVault) { v.err = errLocked }, true, true, false},
		"key_deleted":             {keptRenew - time.Hour, caLife, func(v *memVault) { clear(v.keys) }, false, false, false},
		"key_of_another":          {keptRenew - time.Hour, caLife, func(v *memVault) { v.otherKey(t) }, false, false, false},
		"key_is_junk":             {keptRenew - time.Hour, caLife, func(v *memVault) { v.junk() }, false, false, false},
		"ca_near_its_end":         {keptLife, caRenew - time.Hour, func(*memVault) {}, false, false, false},
		"ca_near_end_and_locked":  {keptLife, caRenew - time.Hour, func(v *memVault) { v.err = errLocked }, true, true, false},
		"ca_ended_and_locked":     {keptLife, -time.Hour, func(v *memVault) { v.err = errLocked }, false, false, true},
		"vault_taken_away":        {keptRenew - time.Hour, caLife, nil, false, false, true},
		"vault_taken_not_yet_due": {keptRenew + time.Hour, caLife, nil, false, true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			vault, file := &memVault{}, &memStore{}
			store := CAStore{File: file, Vault: vault}
			ca := agedCA(t, store, vault, tt.caLeft, tt.serverLeft)
			id := ca.id()
			if tt.vault == nil {
				store.Vault = nil
			} else {
				tt.vault(vault)
			}
			renewed, err := store.Renew(t.Context(), ca)
			if (err != nil) != tt.fails {
				t.Fatalf("Renew() = %v, want an error: %v", err, tt.fails)
			}
			kept := mustOpenAny(t, file)
			if same(kept, ca) != tt.sameCA {
				t.Errorf("the same CA is kept: %v, want %v", same(kept, ca), tt.sameCA)
			}
			if tt.fails {
				return
			}
			if !same(renewed, kept) || renewed.keyInFile() != tt.inFile || kept.keyInFile() != tt.inFile {
				t.Errorf("what is kept is another, or the key in the file is: %v, want %v", kept.keyInFile(), tt.inFile)
			}
			if tt.serverLeft < keptRenew && time.Until(renewed.ServesUntil()) < keptRenew {
				t.Errorf("it serves until %v", renewed.ServesUntil())
			}
			if _, left := vault.keys[id]; !tt.sameCA && tt.vault != nil && vault.err == nil && left {
				t.Error("the key of the former CA is still in the vault")
			}
			if again, err := store.Renew(t.Context(), renewed); err != nil || again != renewed {
				t.Errorf("a second Renew() does it again: %v", err)
			}
		})
	}
}

// agedCA is a CA with its key in the vault that ends, like its listeners' cert,
// so soon.
func agedCA(t *testing.T, store CAStore, vault *memVault, caLeft, serverLeft time.Duration) *LocalCA {
	t.Helper()
	ca, err := newLocalCA(time.Now().Add(caLeft - caLife))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(ca.caKey)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.signServer(ca.caKey, serverLeft)
	if err != nil {
		t.Fatal(err)
	}
	if err := vault.Set(t.Context(), ca.id(), key); err != nil {
		t.Fatal(err)
	}
	ca = ca.with(server)
	ca.caKey = nil
	if err := store.save(ca); err != nil {
		t.Fatal(err)
	}
	return ca
}

// mustOpenAny opens what is kept, even if it has ended.
func mustOpenAny(t *testing.T, file *memStore) *LocalCA {
	t.Helper()
	data, err := file.Load()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := parseLocalCA(data)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (v *memVault) otherKey(t *testing.T) {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for id := range v.keys {
		v.keys[id] = der
	}
}

func (v *memVault) junk() {
	for id := range v.keys {
		v.keys[id] = []byte("junk")
	}
}

func TestVaultForgetsWhatIsNotSaved(t *testing.T) {
	vault := &memVault{}
	store := CAStore{File: FileStore(filepath.Join(t.TempDir(), "file", "kube-ca.pem")), Vault: vault}
	if err := os.WriteFile(filepath.Dir(string(store.File.(FileStore))), nil, 0o600); err != nil { // in the folder's place
		t.Fatal(err)
	}
	if _, err := store.Make(t.Context()); err == nil {
		t.Error("Make() says it is kept, and it is not")
	}
	if len(vault.keys) != 0 {
		t.Errorf("%d keys of CAs without an owner", len(vault.keys))
	}
}

// TestLockedVaultServes has a listener and a client whose CA's vault is locked,
// and then the CA replaced under them.
func TestLockedVaultServes(t *testing.T) {
	vault := &memVault{}
	store := CAStore{File: &memStore{}, Vault: vault}
	mustMake(t, store)
	vault.err = errLocked
	former := mustOpen(t, store)
	var current atomic.Pointer[LocalCA]
	current.Store(former)
	c := newCluster(t, ok)
	l := startListener(t, ListenerConfig{CA: func() (*LocalCA, error) { return current.Load(), nil }})
	run(t, Config{Listener: l, Source: always(c.upstream())})
	url := "https://" + l.Status().Addresses[0] + "/api/v1/pods"
	client := clientOf(t, former, "prod")
	if _, body := get(t, client, url); body != "ok" {
		t.Errorf("with a locked vault it says %s", body)
	}
	next := mustMake(t, CAStore{File: &memStore{}})
	current.Store(next)
	if _, body := get(t, clientOf(t, next, "prod"), url); body != "ok" {
		t.Errorf("with another CA it says %s", body)
	}
	client.CloseIdleConnections() // what it has goes on
	if resp, err := client.Get(url); err == nil {
		resp.Body.Close()
		t.Errorf("the former CA's client gets %d", resp.StatusCode)
	}
}
