// Package process is about the agent's own process: that there is one of it, whether
// those before it crashed, and whether its program was replaced under it.
package process
