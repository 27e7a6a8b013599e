//go:build !linux && !darwin

package install

import "errors"

// exchange fails: this system has no such call.
func exchange(string, string) error { return errors.ErrUnsupported }

// cannotExchange reports whether err says so.
func cannotExchange(err error) bool { return errors.Is(err, errors.ErrUnsupported) }
