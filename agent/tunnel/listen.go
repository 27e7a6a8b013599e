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
	return proto.Listen()
}
