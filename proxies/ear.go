package proxies

import "errors"

// Ear hears how one connection begins, from the moment it has an upstream. What
// it is handed is good until the call returns. Client and the other methods are
// called from two goroutines.
type Ear interface {
	// Client hears what the client says, before the upstream does.
	Client(said []byte)
	// Server hears what the upstream says, before the client does, and returns
	// what is passed on in its place: said itself unless something must be
	// added. answered ends the hearing: the upstream serves the client, or
	// refused says why it does not.
	Server(said []byte) (pass []byte, answered bool, refused error)
	// Ended hears that the upstream has ended before its answer was whole, and
	// says what there was of it.
	Ended() (answered bool, refused error)
	// AnswerDue reports whether an upstream that has hung up without a word owed
	// the client one.
	AnswerDue() bool
	// Probe reports whether the client only wants to know how the tunnel is: an
	// upstream that hangs up on it is no evidence that others are not served.
	Probe() bool
	// Stranger returns what the client spoke instead of the tunnel's protocol;
	// nil means that it may have been that. It is asked once all has ended.
	Stranger() error
}

// Wordless is a refusal that may say no more than a hang-up does. A client that
// has read nothing yet is refused by the tunnel in its place, as if there had been
// ErrClosedEarly: the tunnel's owner finds out more.
type Wordless interface {
	error
	Wordless() bool
}

// overhears reports whether the connection's ear wants to hear more.
func (c *conn) overhears() bool { return c.ear != nil && !c.heard.Load() }

// hearServer lets the ear hear the upstream, and returns what the client gets:
// nothing if the answer is Wordless, which is returned as the error.
func (c *conn) hearServer(said []byte) (pass []byte, wordless error) {
	pass, answered, refused := c.ear.Server(said)
	var w Wordless
	if c.t.cfg.Refuse != nil && c.in.Load() == 0 && errors.As(refused, &w) && w.Wordless() {
		return nil, refused
	}
	c.noteAnswer(answered, refused)
	return pass, nil
}

// noteAnswer reports an upstream's answer, which ends the hearing.
func (c *conn) noteAnswer(answered bool, refused error) {
	if answered {
		c.heard.Store(true)
		c.event(EventAnswered, refused, 0)
	}
}

// answerDue reports whether the upstream, which has hung up without a word, owed
// the client an answer.
func (c *conn) answerDue() bool { return c.ear == nil || c.ear.AnswerDue() }

// strange returns what the client spoke instead of the tunnel's protocol, if that
// may be why the connection ended.
func (c *conn) strange() error {
	if c.ear == nil || errors.Is(c.why(), ErrStopped) || errors.Is(c.why(), ErrClosed) {
		return nil
	}
	return c.ear.Stranger()
}
