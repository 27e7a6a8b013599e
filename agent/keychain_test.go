package agent

import (
	"context"
	"slices"
	"sync"
	"testing"

	"berth/agent/secrets"
)

// fakeKeychain is a keychain in memory.
type fakeKeychain struct {
	mu   sync.Mutex
	kept map[secrets.Key]secrets.Secret
	gets []secrets.Kind
	err  error
}

func (k *fakeKeychain) Get(_ context.Context, key secrets.Key) (secrets.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gets = append(k.gets, key.Kind)
	if k.err != nil {
		return secrets.Secret{}, k.err
	}
	s, ok := k.kept[key]
	if !ok {
		return secrets.Secret{}, secrets.ErrNotStored
	}
	return s, nil
}

func (k *fakeKeychain) Set(_ context.Context, key secrets.Key, s secrets.Secret) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		k.kept = make(map[secrets.Key]secrets.Secret)
	}
	k.kept[key] = s
	return k.err
}

func (k *fakeKeychain) Delete(_ context.Context, key secrets.Key) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, key)
	return k.err
}

func (k *fakeKeychain) Unlock(context.Context) error { return k.err }

func (k *fakeKeychain) has(kind secrets.Kind) bool {
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

func (k *fakeKeychain) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// only returns the one secret that is kept.
func (k *fakeKeychain) only(t *testing.T) (secrets.Key, string) {
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
