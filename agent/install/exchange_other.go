//go:build !linux && !darwin

package install

import "errors"

// exchange is what the system does not have.
func exchange(string, string) error { return errors.ErrUnsupported }

// cannotExchange reports whether err says so.
func cannotExchange(err error) bool { return errors.Is(err, errors.ErrUnsupported) }
