// Command crossvet is "go vet" for a system that berth is not built for here.
// It reads every package from source, so that nothing is compiled: that takes
// seconds, where "go vet" would first compile a thousand packages for that
// system. The system is in GOOS and GOARCH. It is a module of its own so that
// nothing of it enters berth's.
package main

import (
	"golang.org/x/tools/go/analysis/multichecker"
	"golang.org/x/tools/go/analysis/suite/vet"
)

func main() { multichecker.Main(vet.Suite...) }
