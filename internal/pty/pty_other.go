//go:build !linux && !darwin

package pty

import (
	"errors"
	"os"
)

func open() (ours, child *os.File, err error) { return nil, nil, errors.ErrUnsupported }
