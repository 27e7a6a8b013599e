package state

// LoginKind says what a step of a login is about.
type LoginKind string

// The kinds of steps. Those that Typed reports are answered.
const (
	LoginURL      LoginKind = "url"      // open a page in a browser
	LoginPassword LoginKind = "password" // type the password
	LoginOTP      LoginKind = "otp"      // type a one-time code
	LoginPIN      LoginKind = "pin"      // type the PIN of the security key
	LoginTap      LoginKind = "tap"      // touch the security key
	LoginInfo     LoginKind = "info"     // read this
	LoginSettled  LoginKind = "settled"  // the earlier step of the same ID needs no answer any more
	LoginDone     LoginKind = "done"     // logged in; nothing follows
)

// Typed reports whether a person answers such a step by typing a secret.
func (k LoginKind) Typed() bool { return k == LoginPassword || k == LoginOTP || k == LoginPIN }
