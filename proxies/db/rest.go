package db

// Rest follows one connection of a protocol until it is at rest, as a
// proxies.Rest.
type Rest struct {
	follower
	farewell []byte
}

// follower reads what is said on one connection, from its beginning, to know when
// nothing is under way, not even a transaction. What it does not understand makes
// the connection unreadable for good. Its methods are not called at the same time.
type follower interface {
	Client(said []byte)
	Server(said []byte)
	AtRest() bool
}

// Rest returns what follows a connection of the protocol, and ends it politely
// with the words of r. nil means that berth cannot read enough of the protocol.
func (p Protocol) Rest(r Refusal) *Rest {
	if p.follow == nil {
		return nil
	}
	rest := &Rest{follower: p.follow()}
	if p.farewell != nil {
		rest.farewell = p.farewell(r.clean())
	}
	return rest
}

// Farewell returns what the protocol's servers say before they end a connection;
// nothing where they say nothing.
func (r *Rest) Farewell() []byte { return r.farewell }
