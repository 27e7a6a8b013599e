//go:build !unix

package ptytest

import (
	"errors"
	"os"
	"os/exec"
)

// Start is not to be had here.
func Start(*exec.Cmd, *Size) (*os.File, error) { return nil, errors.ErrUnsupported }

// Resize is not to be had here.
func Resize(*os.File, Size) error { return errors.ErrUnsupported }
