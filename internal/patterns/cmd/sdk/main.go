// Command sdk is berth/internal/patterns/sdk as a program, to be measured.
package main

import (
	"os"

	"berth/internal/patterns"
	"berth/internal/patterns/sdk"
)

func main() { os.Exit(patterns.Main(sdk.Open)) }
