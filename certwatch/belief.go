package certwatch

import "time"

// How often doubtful files are looked at again.
const (
	firstRetry = 25 * time.Millisecond
	lastRetry  = time.Second
)

// A belief is the profile as it is shown, and newer content that is in doubt.
// The zero value knows nothing.
type belief struct {
	known bool     // whether any reading was ever believed
	what  digest   // the content that was
	shown *Profile // nil means no such profile

	doubted digest // the reading in doubt
	since   time.Time
	tries   int
}

// take considers a reading. It returns after how long to read again; zero
// means that nothing is in doubt.
func (b *belief) take(r reading) time.Duration {
	switch {
	case b.known && r.what == b.what:
		b.tries = 0
		return 0
	case r.doubt == nil, !b.known && r.quiet >= r.patience:
		b.accept(r)
		return 0
	}
	now := time.Now()
	if b.tries == 0 || r.when != b.doubted {
		b.doubted, b.since, b.tries = r.when, now, 0
	}
	left := r.patience - now.Sub(b.since)
	if left <= 0 {
		b.accept(r)
		return 0
	}
	if !b.known {
		b.shown = settling(r.profile)
	}
	wait := lastRetry
	if b.tries < 6 { // 25, 50, 100, 200, 400, 800 ms
		wait = firstRetry << b.tries
	}
	b.tries++
	return min(wait, left)
}

// accept believes a reading. A session in which nothing differs stays the
// same value.
func (b *belief) accept(r reading) {
	old := b.shown
	b.known, b.what, b.shown, b.tries = true, r.what, r.profile, 0
	if old == nil || b.shown == nil || old.Session == nil || b.shown.Session == nil {
		return
	}
	if old.Session.Fingerprint == b.shown.Session.Fingerprint {
		b.shown.Session = old.Session
	}
}

// settling returns p without what may not be true yet.
func settling(p *Profile) *Profile {
	if p == nil {
		return nil
	}
	q := *p
	q.Session, q.Problem, q.RootCluster, q.Settling = nil, nil, "", true
	return &q
}
