//go:build e2e && !linux

package e2e

import (
	"fmt"
	"testing"
)

// TestMain says why nothing runs here.
func TestMain(*testing.M) {
	fmt.Println("skipped: the journeys against real Teleport run on Linux: they trust the cluster's web certificate through " +
		"SSL_CERT_FILE, which other systems ignore, and look into /proc")
}
