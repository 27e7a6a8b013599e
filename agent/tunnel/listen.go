package tunnel

import (
	"berth/proxies"
	"berth/proxies/db"
)

// listen returns what hears the beginning of a client's connection; nil while the
// database's protocol is not known.
func (t *tunnel) listen() proxies.Ear {
	proto, ok := db.Lookup(t.protocol())
	if !ok {
		return nil
	}
	return proto.Listen(t.allowedUsers()...)
}

// allowedUsers are the database users whom the session may be, "*" for any; none:
// not known.
func (t *tunnel) allowedUsers() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.dbUsers
}
