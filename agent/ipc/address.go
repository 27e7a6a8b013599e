package ipc

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// shortHash is enough of dir's hash to tell instances apart.
func shortHash(dir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dir)))
	return hex.EncodeToString(sum[:8])
}
