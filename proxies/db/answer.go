package db

import (
	"fmt"
	"strings"

	"berth/internal/plain"
)

// answer is what a server made of a client.
type answer struct {
	served bool
	// refused is what a server says that does not serve the client; nil: it
	// serves it, or has not said yet.
	refused *RefusedError
	// from and to are the refusal's place in the server's bytes, for protocols in
	// which it can be replaced by a longer one.
	from, to int
}

// known reports whether the server has answered.
func (a answer) known() bool { return a.served || a.refused != nil }

// served is the answer of a server that has let the client in.
var served = answer{served: true}

// By is who refused a client.
type By string

// Who refuses clients.
const (
	ByTeleport By = "Teleport"
	ByDatabase By = "the database"
	ByBerth    By = "berth" // only a Probe hears it
)

// RefusedError says that the other side has refused a client in its own protocol.
type RefusedError struct {
	By    By
	Words string // the server's own, on one line
	// User and Database are what the client named; empty where it names none.
	User, Database string
	// Unlisted reports whether User is not among those whom the session may be.
	Unlisted bool
	// Password reports whether the client's password was the reason, and Names
	// whether what it named may have been.
	Password, Names bool
	// Probe reports whether the client was Probe, which only wants to know.
	Probe bool
}

// Error has the server's own words.
func (e *RefusedError) Error() string { return fmt.Sprintf("refused by %s: %s", e.By, e.Words) }

// Denied reports whether it was Teleport, for want of rights: other roles might
// help.
func (e *RefusedError) Denied() bool {
	return e.By == ByTeleport && strings.Contains(e.Words, dbDenied)
}

// dbDenied is what Teleport says to whoever lacks the rights.
const dbDenied = "access to db denied"

// Wordless reports whether it says no more than a hang-up does: of a locked user the
// proxy says "access denied" on a connection that was open before, and of a leaf that
// is going away that its cluster is not found. It hangs up on those who come after.
func (e *RefusedError) Wordless() bool {
	gone := strings.HasPrefix(e.Words, `cluster "`) && strings.HasSuffix(e.Words, `" is not found`)
	return e.By == ByTeleport && (e.Words == "access denied" || gone)
}

// refusedBy makes the refusal of words that came from anywhere.
func refusedBy(by By, words string) *RefusedError {
	words = cut(plain.Words(words), titleMax+textMax)
	if words == "" {
		words = "no reason given"
	}
	e := &RefusedError{By: by, Words: words}
	e.Names = e.Denied()
	e.Password = by == ByTeleport && (strings.Contains(words, "without password") || strings.Contains(words, "failed to authenticate as"))
	return e
}

// because notes what an error's code says of the reason.
func (e *RefusedError) because(password, names bool) *RefusedError {
	e.Password, e.Names = password, names
	return e
}

// teleportSays is how Teleport's database service begins its own errors in some
// protocols.
const teleportSays = "Teleport: "
