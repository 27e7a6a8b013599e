package testwait

import "go.uber.org/goleak"

// NoLeaks is the TestMain of a package whose goroutines all end: it runs the tests, and
// goleak fails the package over what is left then. What ends by itself, as gRPC's and
// D-Bus's goroutines do some time after a connection is closed, has as long as a busy
// machine takes; goleak alone gives it less than a second.
func NoLeaks(m goleak.TestingM, kept ...goleak.Option) {
	goleak.VerifyTestMain(settling{m, kept}, kept...)
}

// settling are tests that end only when their goroutines have, or never will.
type settling struct {
	tests goleak.TestingM
	kept  []goleak.Option
}

func (s settling) Run() int {
	code := s.tests.Run()
	if code == 0 {
		Until(func() bool { return goleak.Find(s.kept...) == nil })
	}
	return code
}
