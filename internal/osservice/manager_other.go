//go:build !linux && !darwin && !windows

package osservice

func newManager(cfg Config) (Manager, error) { return newAutostart(cfg) }
