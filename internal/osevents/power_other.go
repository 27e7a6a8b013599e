//go:build !linux && !windows

package osevents

// onBattery returns false: only frameworks that need C know.
func onBattery() bool { return false }
