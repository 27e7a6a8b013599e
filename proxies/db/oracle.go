package db

// oracle's clients need the wallet and the descriptor that tsh makes, and its
// local listener must speak TLS with that wallet: only tsh carries it, and
// refuses its clients.
var oracle = Protocol{
	Name:        "oracle",
	Title:       "Oracle",
	ALPN:        "teleport-oracle",
	NeedsDBUser: true,
}
