// Command tsh is a fake tsh, for simulated clusters only: see package faketsh.
package main

import (
	"os"

	"berth/internal/simcluster/faketsh"
)

func main() {
	os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
