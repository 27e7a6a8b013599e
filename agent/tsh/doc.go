// Package tsh runs Teleport's own client where berth does not do the work
// itself: it finds tsh, asks its version, runs one command, logs in, and keeps a
// child that carries a tunnel's connections alive behind berth's own listener.
//
// It promises that a tsh it starts opens no browser, meets no terminal but
// the one a login reads a password from, sees no TELEPORT_ variable but berth's
// own, and does not outlive the agent, nor does anything tsh itself has started.
// What tsh prints reaches logs and errors only after escape codes and whatever
// looks like a secret are gone.
//
// The last promise has one limit: when the agent is killed with no chance to
// act, Linux ends the tsh child and Windows ends all it started too, while on
// macOS the child lives on until it is ended by hand.
package tsh
