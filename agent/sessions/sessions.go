// Package sessions knows which login session serves which cluster. It keeps one
// live connection for each session that berth can use, and replaces it when the
// session is a new one: an open connection would go on acting with the old
// identity. Readers never lock and never wait.
package sessions

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/certwatch"
	"berth/internal/shell"
	"berth/internal/wake"
)

// Why a missing session makes a cluster unreachable.
var (
	ErrNoProfile   = errors.New("no profile knows the cluster")
	ErrLoginNeeded = errors.New("no valid session")
	ErrSettling    = errors.New("the profile's files are being written")
)

// Session is a profile and the connection that acts with its session. The zero
// Session belongs to no profile.
type Session struct {
	Profile *certwatch.Profile // nil: no profile is meant
	Cluster *cluster.Cluster   // nil: berth cannot use the profile's session, or there is none
	Changed UserChange
}

// UserChange is when a profile's session became another user's. The zero value
// means that it did not while berth looked.
type UserChange struct {
	user   string // of the newest session
	Before string // whose session was there before
	At     time.Time
}

// next returns the change that the profile's present session makes.
func (u UserChange) next(p *certwatch.Profile) UserChange {
	switch {
	case p.Session == nil || p.User == u.user:
		return u
	case u.user == "":
		return UserChange{user: p.User}
	default:
		return UserChange{user: p.User, Before: u.user, At: time.Now().Round(0)}
	}
}

// Fault returns what keeps the session from its cluster; nil means nothing that
// is known.
func (s Session) Fault() *cluster.Fault {
	if s.Cluster == nil {
		return nil
	}
	return s.Cluster.Fault()
}

// Valid reports whether the profile has a session that has not expired.
func (s Session) Valid(now time.Time) bool {
	return s.Profile != nil && s.Profile.Session != nil && now.Before(s.Profile.Session.ValidUntil)
}

// Sessions are the sessions of all profiles in the watched homes.
type Sessions struct {
	log *slog.Logger
	now atomic.Pointer[known]
	// Moved is woken after every Update, and when a login begins or ends.
	Moved wake.Broadcast
	// Stood is given when how a session stands with its cluster, or gets there, has changed.
	Stood wake.Signal

	end     func(*cluster.Cluster) error // Close, but in tests
	closing sync.WaitGroup               // connections of sessions that were replaced
}

// known is immutable.
type known struct {
	view *certwatch.View
	all  []Session // in the order of the view's profiles
	// forbidden are the profiles that the policy does not let berth use.
	forbidden []*certwatch.Profile
}

func (k *known) of(id certwatch.ProfileID) Session {
	for _, s := range k.all {
		if s.Profile.ID() == id {
			return s
		}
	}
	return Session{}
}

// New returns Sessions that know of no profile yet.
func New(log *slog.Logger) *Sessions {
	s := &Sessions{log: log, Stood: wake.NewSignal(), end: (*cluster.Cluster).Close}
	s.now.Store(&known{view: &certwatch.View{}})
	return s
}

// Update adopts a new view of the homes, and the profiles there that the policy
// forbids, which are not in the view. It returns the profiles whose session lacks
// roles that the one before had: connections opened with those are stale. It must not
// be called from two goroutines at once.
func (s *Sessions) Update(view *certwatch.View, forbidden ...*certwatch.Profile) (lostRoles []certwatch.ProfileID) {
	old := s.now.Load()
	next := &known{view: view, all: make([]Session, 0, len(view.Profiles)), forbidden: forbidden}
	kept := make(map[*cluster.Cluster]bool)
	for _, p := range view.Profiles {
		was := old.of(p.ID())
		is := Session{Profile: p, Changed: was.Changed.next(p)}
		switch {
		case p.Session == nil:
		case was.Cluster != nil && was.Profile.Session.Fingerprint == p.Session.Fingerprint:
			is.Cluster = was.Cluster
			kept[is.Cluster] = true
		default:
			is.Cluster = s.open(p)
		}
		if is.Changed.At != was.Changed.At {
			s.log.Warn("session is another user's", "profile", p.ProxyAddr, "user", p.User, "before", is.Changed.Before)
		}
		if lacksRoles(was.Profile, p) || is.Changed.At != was.Changed.At {
			lostRoles = append(lostRoles, p.ID())
		}
		next.all = append(next.all, is)
	}
	s.now.Store(next)
	s.Moved.Wake()
	for _, was := range old.all {
		if was.Cluster != nil && !kept[was.Cluster] {
			s.closing.Go(func() { s.close(was) }) // seconds, where the network swallows what is sent
		}
	}
	return lostRoles
}

// open connects a session. It returns nil for a session whose key is in
// hardware: only tsh can use it.
func (s *Sessions) open(p *certwatch.Profile) *cluster.Cluster {
	c, err := cluster.New(cluster.Config{Profile: p, Logger: s.log, OnStanding: s.Stood.Wake})
	if err != nil {
		s.log.Debug("session not usable without tsh", "profile", p.ProxyAddr, "err", err)
		return nil
	}
	s.log.Info("session loaded", "profile", p.ProxyAddr, "user", p.User, "home", p.Home,
		"valid_until", p.Session.ValidUntil.UTC())
	return c
}

func (s *Sessions) close(old Session) {
	if err := s.end(old.Cluster); err != nil {
		s.log.Debug("close replaced session", "profile", old.Profile.Name, "err", err)
	}
}

func lacksRoles(was, is *certwatch.Profile) bool {
	return was != nil && was.Session != nil && is.Session != nil &&
		slices.ContainsFunc(was.Session.Identity.Roles, func(role string) bool {
			return !slices.Contains(is.Session.Identity.Roles, role)
		})
}

// Close closes every connection. Sessions are of no use afterwards.
func (s *Sessions) Close() {
	old := s.now.Swap(&known{view: &certwatch.View{}})
	for _, was := range old.all {
		if was.Cluster != nil {
			s.close(was)
		}
	}
	s.closing.Wait()
}

// View is the view that was adopted last.
func (s *Sessions) View() *certwatch.View { return s.now.Load().view }

// Forbidden returns the profiles that the policy does not let berth use. The slice must
// not be changed.
func (s *Sessions) Forbidden() []*certwatch.Profile { return s.now.Load().forbidden }

// All returns every profile with its connection. The slice must not be changed.
func (s *Sessions) All() []Session { return s.now.Load().all }

// Of returns the session of a profile.
func (s *Sessions) Of(id certwatch.ProfileID) Session { return s.now.Load().of(id) }

// At returns the session at a proxy, given by its address.
func (s *Sessions) At(proxyAddr string) Session {
	return s.first(func(p *certwatch.Profile) bool { return p.ProxyAddr == proxyAddr })
}

// Find returns the session at a proxy that a person named: by its address, its
// host, or its cluster's name.
func (s *Sessions) Find(name string) Session {
	for _, same := range meant(name) {
		if found := s.first(same); found.Profile != nil {
			return found
		}
	}
	return Session{}
}

// meant returns what a profile that a person named may have that name by, the
// surest first.
func meant(name string) []func(*certwatch.Profile) bool {
	return []func(*certwatch.Profile) bool{
		func(p *certwatch.Profile) bool { return p.ProxyAddr == name },
		func(p *certwatch.Profile) bool { return p.Name == name || p.ProxyAddr == name+":443" },
		func(p *certwatch.Profile) bool { return p.RootCluster == name },
	}
}

// FindForbidden is Find among the profiles that the policy forbids, of a user if one is
// named; an empty name means the current one.
func (s *Sessions) FindForbidden(name, user string) Session {
	list := s.now.Load().forbidden
	rules := meant(name)
	if name == "" {
		rules = []func(*certwatch.Profile) bool{
			func(p *certwatch.Profile) bool { return p.Current }, func(*certwatch.Profile) bool { return len(list) == 1 },
		}
	}
	for _, same := range rules {
		mine := func(p *certwatch.Profile) bool { return same(p) && (user == "" || p.User == user) }
		if i := slices.IndexFunc(list, mine); i >= 0 {
			return Session{Profile: list[i]}
		}
	}
	return Session{}
}

// ForbiddenProxy returns the proxy of a profile that knows the cluster and that the
// policy forbids, or of any for an empty name; empty: there is none.
func (s *Sessions) ForbiddenProxy(clusterName string) string {
	for _, p := range s.now.Load().forbidden {
		if clusterName == "" || cluster.Knows(p, clusterName) {
			return p.ProxyAddr
		}
	}
	return ""
}

func (s *Sessions) first(same func(*certwatch.Profile) bool) Session {
	for _, f := range s.All() {
		if same(f.Profile) {
			return f
		}
	}
	return Session{}
}

// Current returns the profile that tsh would use: the current one of the first
// home that has one, else the only one there is.
func (s *Sessions) Current() Session {
	current := s.first(func(p *certwatch.Profile) bool { return p.Current })
	if all := s.All(); current.Profile == nil && len(all) == 1 {
		return all[0]
	}
	return current
}

// ForCluster returns the profile that serves the named cluster: of those that
// know it, one of the user if one is named, one with a valid session before one
// without, a root cluster's before one that knows it as a leaf, and then in the
// order of the homes. Where no such profile is of the user, it is another's.
func (s *Sessions) ForCluster(name, user string, now time.Time) Session {
	return s.Best(func(f Session) int {
		if !cluster.Knows(f.Profile, name) {
			return -1
		}
		rank := 0
		if user != "" && f.Profile.User == user {
			rank += 4
		}
		if f.Valid(now) {
			rank += 2
		}
		if f.Profile.RootCluster == name {
			rank++
		}
		return rank
	})
}

// Best returns the session with the highest rank; of equals, the first in the order
// of the homes. One with a rank below zero is not considered.
func (s *Sessions) Best(rank func(Session) int) Session {
	var best Session
	bestRank := -1
	for _, f := range s.All() {
		if r := rank(f); r > bestRank {
			best, bestRank = f, r
		}
	}
	return best
}

// Discover is ForCluster for a cluster that no profile names: a leaf that joined
// after the login is known to its root only, so the live sessions are asked.
func (s *Sessions) Discover(ctx context.Context, name, user string, now time.Time) Session {
	if f := s.ForCluster(name, user, now); f.Profile != nil {
		return f
	}
	for _, f := range s.Usable(now) {
		if user != "" && f.Profile.User != user {
			continue
		}
		_, err := f.Cluster.ClusterCAs(ctx, name)
		switch {
		case err == nil:
			return f
		case ctx.Err() == nil && f.Cluster.Closed(): // and another has taken its place
			return s.Discover(ctx, name, user, now)
		}
	}
	return Session{}
}

// Usable returns the valid sessions that have a connection.
func (s *Sessions) Usable(now time.Time) []Session {
	var list []Session
	for _, f := range s.All() {
		if f.Cluster != nil && f.Valid(now) {
			list = append(list, f)
		}
	}
	return list
}

// ValidAt reports whether there is a valid session at a proxy; an empty address
// means at any.
func (s *Sessions) ValidAt(proxyAddr string, now time.Time) bool {
	return slices.ContainsFunc(s.All(), func(f Session) bool {
		return (proxyAddr == "" || f.Profile.ProxyAddr == proxyAddr) && f.Valid(now)
	})
}

// ValidClusters returns the selected cluster of every profile with a valid
// session, each once.
func (s *Sessions) ValidClusters(now time.Time) []string {
	var names []string
	for _, f := range s.All() {
		if f.Valid(now) && !slices.Contains(names, f.Profile.Cluster) {
			names = append(names, f.Profile.Cluster)
		}
	}
	return names
}

// UserAt returns whom a command about a user's session at a proxy has to name: the user,
// where another home has a session there.
func (s *Sessions) UserAt(proxyAddr, user string) string {
	homes := 0
	for _, f := range s.All() {
		if f.Profile.ProxyAddr == proxyAddr {
			homes++
		}
	}
	if homes < 2 {
		return ""
	}
	return user
}

// LoginCommand returns the command that logs in at a proxy; empty arguments are
// not known.
func LoginCommand(proxyAddr, user string) string { return command(proxyAddr, user, "berth", "login") }

// RenewCommand is LoginCommand for a renewal.
func RenewCommand(proxyAddr, user string) string {
	return command(proxyAddr, user, "berth", "login", "--renew")
}

// LogoutCommand is LoginCommand for a logout.
func LogoutCommand(proxyAddr, user string) string {
	return command(proxyAddr, user, "berth", "logout")
}

func command(proxyAddr, user string, words ...string) string {
	switch {
	case proxyAddr == "":
		words = append(words, "PROXY")
	case user == "":
		words = append(words, proxyAddr)
	default:
		words = append(words, proxyAddr, "--user="+user)
	}
	return shell.Quote(words...)
}

// Clusters returns the clusters, root and leaves, that the valid sessions lead to,
// each once. A root that cannot be asked for its leaves stands for itself.
func (s *Sessions) Clusters(ctx context.Context, now time.Time) []string {
	var names []string
	for _, f := range s.All() {
		if !f.Valid(now) {
			continue
		}
		reach := []string{f.Profile.Cluster}
		if f.Cluster != nil {
			reach = append(reach, f.Cluster.Clusters(ctx)...)
		}
		for _, name := range reach {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Homes returns the homes to watch: the config's, else the home that tsh uses.
func Homes(cfg *config.Config) ([]string, error) {
	if homes := cfg.HomePaths(); len(homes) > 0 {
		return homes, nil
	}
	home, err := certwatch.DefaultHome()
	if err != nil {
		return nil, err
	}
	return []string{home}, nil
}
