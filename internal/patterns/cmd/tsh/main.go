// Command tsh is berth/internal/patterns/tsh as a program, to be measured.
package main

import (
	"os"

	"berth/internal/patterns"
	"berth/internal/patterns/tsh"
)

func main() { os.Exit(patterns.Main(tsh.Open)) }
