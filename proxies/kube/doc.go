// Package kube keeps Kubernetes tunnels open: local TLS listeners whose
// requests are carried to Kubernetes clusters behind a Teleport proxy.
//
// A Tunnel promises that
//   - its clients' kubeconfig stays valid: the local address, the name asked
//     for there, the local CA and the client's cert outlive every login;
//   - only clients with that kubeconfig are served, and no web page;
//   - a request that comes before there is a credential is held, not refused;
//   - a refusal is a Kubernetes Status object, as from an API server;
//   - watches, logs and upgraded streams are passed on as they come, in memory
//     that does not grow, and are left alone when the credential changes;
//   - Host, path, query and headers arrive as the client sent them. The user to
//     impersonate is only added for a client that names none.
//
// One Listener serves any number of tunnels, which it distinguishes by the name
// that clients ask for in the TLS handshake; a tunnel may also have a listener of
// its own.
//
// Like package proxies it knows no profiles: it is handed a Source, which waits
// for a credential and returns an Upstream.
package kube
