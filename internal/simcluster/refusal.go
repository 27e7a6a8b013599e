package simcluster

import (
	"fmt"
	"strings"

	"github.com/gravitational/trace"
)

// refusal is how a user is refused whatever they ask for.
type refusal struct {
	call  error  // what the auth service says
	login string // a login's error
}

// Lock locks a user, as "tctl lock" does. What databases have begun to answer is
// cut off, and new connections are ended without a word.
func (c *Cluster) Lock(user, message string) {
	c.refuse(user, refusal{
		call: trace.AccessDenied("access denied"), login: fmt.Sprintf("lock targeting User:%q is in force: %s", user, message),
	})
}

// Unlock deletes the lock of a user.
func (c *Cluster) Unlock(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.refused, user)
}

// RemoveUser deletes a user, whose certs are refused from then on as a locked
// user's are.
func (c *Cluster) RemoveUser(name string) {
	c.mu.Lock()
	delete(c.users, name)
	c.mu.Unlock()
	c.refuse(name, refusal{call: trace.NotFound("access denied\n\tuser %q not found", name), login: errBadLogin.Error()})
}

func (c *Cluster) refuse(user string, how refusal) {
	c.mu.Lock()
	c.refused[user] = how
	c.mu.Unlock()
	c.closeConns(func(raw *conn) bool {
		of := raw.user.Load()
		return of != nil && *of == user && raw.routed.Load()
	})
}

// refusalOf returns how a user is refused; nil: they are not. A leaf's name for
// the user stands for the user.
func (c *Cluster) refusalOf(user string) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if mapped, ok := strings.CutPrefix(user, "remote-"); ok {
		user = strings.TrimSuffix(mapped, "-"+c.cfg.Name)
	}
	how, ok := c.refused[user]
	if !ok {
		return nil
	}
	return &how
}

// RotateUserCA takes a rotation of the user CA to its end: the certs that were
// issued before open no new connection. Open ones go on.
func (c *Cluster) RotateUserCA() error {
	userCA, err := newAuthority(c.root.name, c.serial, c.now())
	if err != nil {
		return err
	}
	if err := c.root.setTrust(userCA, c.root.trust.Load().hostCA); err != nil {
		return err
	}
	c.trustUsers()
	for _, leaf := range c.trustedBy(c.root)[1:] {
		was := leaf.trust.Load()
		if err := leaf.setTrust(was.userCA, was.hostCA); err != nil {
			return err
		}
	}
	return nil
}

// RotateHostCA takes a rotation of the host CA to its end: the proxy and the auth
// service show certs that earlier logins do not trust. The services restart,
// which ends the connections to the auth service.
func (c *Cluster) RotateHostCA() error { return c.root.RotateHostCA() }

// RotateHostCA is the same for one cluster, which may be a leaf.
func (s *Site) RotateHostCA() error {
	hostCA, err := newAuthority(s.name, s.c.serial, s.c.now())
	if err != nil {
		return err
	}
	if err := s.setTrust(s.trust.Load().userCA, hostCA); err != nil {
		return err
	}
	s.c.closeConns(func(raw *conn) bool { return raw.auth.Load() && (s.root == nil || raw.site.Load() == s) })
	return nil
}

// SetAway says whether a leaf is away: the root tells the first client of Postgres
// or MySQL that it does not find the cluster, as a real one may, and hangs up on whoever wants
// something of it.
func (s *Site) SetAway(away bool) {
	s.away.Store(away)
	s.parting.Store(away)
	if !away {
		return
	}
	s.c.closeConns(func(raw *conn) bool {
		target := raw.target.Load()
		return target != nil && strings.HasPrefix(*target, s.name+"/") || raw.site.Load() == s
	})
}
