// Package secretstest is a keychain in memory, for tests.
package secretstest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"berth/agent/secrets"
)

// Keychain is a keychain in memory. The zero value is empty and unlocked.
type Keychain struct {
	mu    sync.Mutex
	kept  map[secrets.Key]secrets.Secret
	asked []secrets.Kind
	err   error
}

// Get returns what was kept, or ErrNotStored.
func (k *Keychain) Get(_ context.Context, key secrets.Key) (secrets.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, key.Kind)
	if k.err != nil {
		return secrets.Secret{}, k.err
	}
	s, ok := k.kept[key]
	if !ok {
		return secrets.Secret{}, secrets.ErrNotStored
	}
	return s, nil
}

// Set keeps a secret.
func (k *Keychain) Set(_ context.Context, key secrets.Key, s secrets.Secret) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		k.kept = make(map[secrets.Key]secrets.Secret)
	}
	k.kept[key] = s
	return k.err
}

// Delete drops a secret.
func (k *Keychain) Delete(_ context.Context, key secrets.Key) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, key)
	return k.err
}

// Unlock fails as everything does after Fail.
func (k *Keychain) Unlock(context.Context) error { return k.err }

// Has reports whether a secret of the kind is kept.
func (k *Keychain) Has(kind secrets.Kind) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(slices.Collect(func(yield func(secrets.Key) bool) {
		for key := range k.kept {
			if !yield(key) {
				return
			}
		}
	}), func(key secrets.Key) bool { return key.Kind == kind })
}

// Fail makes every call fail with err, until Fail(nil).
func (k *Keychain) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// Only returns the one secret that is kept.
func (k *Keychain) Only(t *testing.T) (secrets.Key, string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) != 1 {
		t.Fatalf("the keychain has %d secrets, want one", len(k.kept))
	}
	for key, s := range k.kept {
		return key, s.Reveal()
	}
	return secrets.Key{}, ""
}

// Asked returns the kinds of secrets that were asked for, in order.
func (k *Keychain) Asked() []secrets.Kind {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.asked)
}

// Clear drops everything that is kept.
func (k *Keychain) Clear() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.kept)
}

// Len returns how many secrets are kept.
func (k *Keychain) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.kept)
}
