//go:build !unix

package route

// fileLimit is how many files this process may open.
func fileLimit() int { return 1 << 20 }
