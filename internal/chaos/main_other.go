//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "chaos: it runs on Linux alone: it stops processes, mounts folders and limits resources")
	os.Exit(1)
}
