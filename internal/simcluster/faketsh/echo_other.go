//go:build !linux

package faketsh

// echoOff does nothing here: the prompt appears a moment before the echo goes,
// as with the real tsh.
func echoOff(int) (restore func(), err error) { return func() {}, nil }
