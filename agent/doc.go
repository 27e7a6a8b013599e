// Package agent is the program that runs tunnels: it follows the Teleport
// homes, keeps a live connection per login session, and publishes what it
// knows as one immutable state.Snapshot that every front end draws.
//
// Run starts everything and returns only when all of it has ended. The order
// matters: the lock first (one agent per user), then the config, then every
// port, and only then the network, so that clients find their ports from the
// first moment whatever the state of the login.
package agent
