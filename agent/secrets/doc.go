// Package secrets keeps what a user has asked berth to remember, passwords and
// the seeds of one-time codes, and the key of the CA that local clients of
// Kubernetes trust, in the keychain of the operating system: the Secret Service
// on Linux, the Keychain on macOS, the Credential Manager on Windows. Here
// nothing is ever written to a file instead.
//
// A keychain may be missing, locked, or busy showing a dialog for ever. No call
// takes longer than three seconds or makes a dialog appear, except [Store.Unlock],
// which is for a present user who wants to. What is wrong comes back as an
// error that says what to do about it, and errors and logs hold no secret.
package secrets
