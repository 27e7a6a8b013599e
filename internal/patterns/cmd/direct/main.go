// Command direct is berth/internal/patterns/direct as a program, to be measured.
package main

import (
	"os"

	"berth/internal/patterns"
	"berth/internal/patterns/direct"
)

func main() { os.Exit(patterns.Main(direct.Open)) }
