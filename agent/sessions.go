package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"berth/agent/cluster"
	"berth/certwatch"
)

// sessions keeps one live cluster.Cluster per usable login session and answers
// which of them serves a given cluster.
type sessions struct {
	log *slog.Logger

	mu   sync.Mutex
	view *certwatch.View
	live map[profileKey]*liveSession
}

// profileKey names a profile: the same proxy may be in several homes.
type profileKey struct{ home, name string }

func keyOf(p *certwatch.Profile) profileKey { return profileKey{home: p.Home, name: p.Name} }

type liveSession struct {
	fingerprint string
	cluster     *cluster.Cluster
}

func newSessions(log *slog.Logger) *sessions {
	return &sessions{log: log, live: make(map[profileKey]*liveSession)}
}

// update takes over a new view of the homes. A session that is still the same
// keeps its connection; one that changed gets a new one, because an open
// connection would go on acting with the old identity.
func (s *sessions) update(view *certwatch.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = view
	seen := make(map[profileKey]bool, len(view.Profiles))
	for _, p := range view.Profiles {
		key := keyOf(p)
		if p.Session == nil {
			continue
		}
		seen[key] = true
		old := s.live[key]
		if old != nil && old.fingerprint == p.Session.Fingerprint {
			continue
		}
		if old != nil {
			s.closeLocked(key, old)
		}
		c, err := cluster.New(cluster.Config{Profile: p, Logger: s.log})
		if err != nil {
			// Logged out, or a hardware key: tunnels of this profile find no
			// cluster and say so.
			delete(s.live, key)
			continue
		}
		s.live[key] = &liveSession{fingerprint: p.Session.Fingerprint, cluster: c}
		s.log.Info("session loaded", "profile", p.ProxyAddr, "user", p.User, "home", p.Home,
			"valid_until", p.Session.ValidUntil.UTC())
	}
	for key, old := range s.live {
		if !seen[key] {
			s.closeLocked(key, old)
		}
	}
}

func (s *sessions) closeLocked(key profileKey, old *liveSession) {
	delete(s.live, key)
	if err := old.cluster.Close(); err != nil {
		s.log.Debug("close replaced session", "profile", key.name, "err", err)
	}
}

func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, old := range s.live {
		s.closeLocked(key, old)
	}
}

// found is the answer to "who serves this cluster?".
type found struct {
	profile *certwatch.Profile // nil: no profile knows the cluster
	cluster *cluster.Cluster   // nil: the profile has no session berth can use
}

// valid reports whether the profile has a session that has not ended.
func (f found) valid(now time.Time) bool {
	return f.profile != nil && f.profile.Session != nil && now.Before(f.profile.Session.ValidUntil)
}

// forCluster returns the profile that serves the named cluster: among those
// that know it, one with a valid session before one without, a root cluster's
// before one that knows it as a leaf, and then in the order of the homes.
func (s *sessions) forCluster(name string, now time.Time) found {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return found{}
	}
	var best found
	bestRank := -1
	for _, p := range s.view.Profiles {
		if !cluster.Knows(p, name) {
			continue
		}
		f := found{profile: p}
		if live := s.live[keyOf(p)]; live != nil {
			f.cluster = live.cluster
		}
		rank := 0
		if f.valid(now) {
			rank += 2
		}
		if p.RootCluster == name {
			rank++
		}
		if rank > bestRank {
			best, bestRank = f, rank
		}
	}
	return best
}

// discover is forCluster for a cluster no profile names: a leaf that joined
// after the login is known to its root only, so the live sessions are asked.
func (s *sessions) discover(ctx context.Context, name string, now time.Time) found {
	if f := s.forCluster(name, now); f.profile != nil {
		return f
	}
	for _, f := range s.usable(now) {
		if _, err := f.cluster.ClusterCAs(ctx, name); err == nil {
			return f
		}
	}
	return found{}
}

// usable returns the valid sessions that have a live connection.
func (s *sessions) usable(now time.Time) []found {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []found
	if s.view == nil {
		return nil
	}
	for _, p := range s.view.Profiles {
		f := found{profile: p}
		if live := s.live[keyOf(p)]; live != nil && f.valid(now) {
			f.cluster = live.cluster
			list = append(list, f)
		}
	}
	return list
}

// current returns the profile tsh would use: the current one of the first home
// that has one, else the only one there is.
func (s *sessions) current() found {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return found{}
	}
	var pick *certwatch.Profile
	for _, p := range s.view.Profiles {
		if p.Current {
			pick = p
			break
		}
	}
	if pick == nil && len(s.view.Profiles) == 1 {
		pick = s.view.Profiles[0]
	}
	if pick == nil {
		return found{}
	}
	f := found{profile: pick}
	if live := s.live[keyOf(pick)]; live != nil {
		f.cluster = live.cluster
	}
	return f
}

// profiles returns the profiles of the newest view.
func (s *sessions) profiles() []*certwatch.Profile {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil
	}
	return s.view.Profiles
}
