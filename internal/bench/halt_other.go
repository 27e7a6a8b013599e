//go:build !unix

package main

import (
	"errors"
	"fmt"
	"os"
)

// halt fails: there is no signal that has a process stand still.
func halt(*os.Process) error { return fmt.Errorf("stop a process: %w", errors.ErrUnsupported) }

func resume(*os.Process) error { return nil }
