// Package metrics says how the agent is to programs that watch it: liveness,
// readiness, metrics in the text form of Prometheus and, where the config says so,
// Go's profiles. All of it is off unless the config turns it on, and only programs
// of the agent's own user on this machine can ask.
//
// It promises to disclose no name of a tunnel, cluster or user unless the config has
// labels: names, and to try a tunnel's way rarely, however often it is asked.
package metrics
