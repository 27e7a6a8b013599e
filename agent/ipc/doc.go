// Package ipc is how the agent's front ends reach it: the berth.v1 gRPC
// service over a Unix socket, or a named pipe on Windows, and never TCP.
//
// It promises three things. Only the agent's own user gets through: the
// socket lies in a folder that only this user can enter, and the peer's user is
// checked before the first call is read. A watcher is never behind for long:
// whoever reads slowly misses snapshots in between, not the newest. And a
// failed call says what failed, what to do next, and in which class of failure
// it falls, as an [Error].
//
// The server side is handed a [Backend], which the agent implements; the
// client side is in the client package. Nothing here knows a credential.
package ipc
