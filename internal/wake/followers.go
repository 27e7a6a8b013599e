package wake

import "sync"

// Followers are the goroutines that follow a value: each has a channel with room
// for one wake-up, so that a slow one misses no change and reads the newest
// value. The zero value has none.
type Followers struct {
	mu   sync.Mutex // guards list
	list map[Signal]struct{}
}

// Subscribe returns a channel that receives after each Wake, and the function
// that ends the subscription.
func (f *Followers) Subscribe() (changed <-chan struct{}, cancel func()) {
	ch := NewSignal()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.list == nil {
		f.list = make(map[Signal]struct{})
	}
	f.list[ch] = struct{}{}
	return ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.list, ch)
	}
}

// Wake wakes every follower. It never blocks.
func (f *Followers) Wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch := range f.list {
		ch.Wake()
	}
}

// Any reports whether there is a follower.
func (f *Followers) Any() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.list) > 0
}
