//go:build !unix

package main

// raiseFileLimit does nothing: there is no limit to raise.
func raiseFileLimit() error { return nil }

// fileLimit is more than is needed.
func fileLimit() (int, error) { return 1 << 20, nil }
