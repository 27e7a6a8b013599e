// Package access follows the access requests of every live session: its
// user's own and those the user may review.
//
// It promises that a request is shown as the server says it and never as
// berth guesses it: own requests are watched, so that a decision is known
// within a second or so; all are listed again after each gap in the watch and
// every 15 to 30 seconds, so that nothing is missed; what arrives twice or out
// of order makes no difference. Where the api cannot be used, tsh is asked.
//
// Text that other people wrote is cleaned here, once: what leaves this package
// is cut to length and holds no control or formatting character.
package access
