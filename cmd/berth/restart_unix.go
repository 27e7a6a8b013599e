//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// restartSignal receives when a signal asks the agent to have a new process take its
// place.
func restartSignal() <-chan os.Signal {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	return asked
}
