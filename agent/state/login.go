package state

// LoginKind says what a step of a login is about.
type LoginKind string

// The kinds of steps. Only LoginPassword and LoginOTP are answered.
const (
	LoginURL      LoginKind = "url"      // open a page in a browser
	LoginPassword LoginKind = "password" // type the password
	LoginOTP      LoginKind = "otp"      // type a one-time code
	LoginTap      LoginKind = "tap"      // touch the security key
	LoginInfo     LoginKind = "info"     // read this
	LoginSettled  LoginKind = "settled"  // the earlier step of the same ID needs no answer any more
	LoginDone     LoginKind = "done"     // logged in; nothing follows
)
