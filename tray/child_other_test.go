//go:build !linux

package tray

// childVar has the test binary be a tray; nothing needs that here.
const childVar = "BERTH_TRAY_CHILD"

func runChild() int { return 2 }
