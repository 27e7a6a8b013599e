package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// said are events of "go test -json": of a package that passes, one that does
// not build, and one whose test fails while another hangs.
const said = `{"Action":"start","Package":"b/one"}
{"Action":"run","Package":"b/one","Test":"TestA"}
{"Action":"output","Package":"b/one","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"b/one","Test":"TestA","Output":"    a_test.go:3: nothing to see\n"}
{"Action":"pass","Package":"b/one","Test":"TestA/part","Elapsed":7.5}
{"Action":"pass","Package":"b/one","Test":"TestA","Elapsed":7.6}
{"Action":"output","Package":"b/one","Test":"TestB/x","Output":"=== RUN   TestB/x\n"}
{"Action":"output","Package":"b/one","Test":"TestB/x","Output":"    a_test.go:9: needs psql: install postgresql-client\n"}
{"Action":"output","Package":"b/one","Test":"TestB/x","Output":"    --- SKIP: TestB/x (0.00s)\n"}
{"Action":"skip","Package":"b/one","Test":"TestB/x"}
{"Action":"output","Package":"b/one","Output":"PASS\n"}
{"Action":"output","Package":"b/one","Output":"ok  \tb/one\t0.1s\tcoverage: 50.0% of statements\n"}
{"Action":"pass","Package":"b/one"}
{"ImportPath":"b/two","Action":"build-output","Output":"two.go:1: undefined: x\n"}
{"ImportPath":"b/two","Action":"build-fail"}
{"Action":"output","Package":"b/two","Output":"FAIL\tb/two [build failed]\n"}
{"Action":"fail","Package":"b/two","FailedBuild":"b/two"}
{"Action":"output","Package":"b/three","Test":"TestC","Output":"    c_test.go:1: wrong\n"}
{"Action":"output","Package":"b/three","Test":"TestC","Output":"--- FAIL: TestC (0.00s)\n"}
{"Action":"fail","Package":"b/three","Test":"TestC","Elapsed":12}
{"Action":"output","Package":"b/three","Test":"TestHangs","Output":"=== RUN   TestHangs\n"}
{"Action":"output","Package":"b/three","Output":"panic: test timed out\n"}
{"Action":"output","Package":"b/three","Output":"FAIL\tb/three\t540s\n"}
{"Action":"fail","Package":"b/three"}
go: this is no event
`

const printed = `ok  	b/one	0.1s
two.go:1: undefined: x
FAIL	b/two [build failed]
    c_test.go:1: wrong
--- FAIL: TestC (0.00s)
FAIL	b/three	540s
=== RUN   TestHangs
panic: test timed out
go: this is no event

1 skipped:
  needs psql: install postgresql-client
      b/one TestB/x

The slowest:
   12.0 s  b/three TestC
    7.6 s  b/one TestA

2 tests passed, 1 skipped. Failed:
  b/two
  b/three TestC
  b/three
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(said)); err != nil {
		t.Fatal(err)
	}
	r.summary()
	if diff := cmp.Diff(printed, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCoverage(t *testing.T) {
	got, err := coverage(strings.NewReader(`mode: set
b/one/a.go:1.2,3.4 3 0
b/one/a.go:5.2,6.4 1 0
b/one/b.go:1.2,3.4 2 1
b/one/a.go:1.2,3.4 3 1
b/two/c.go:1.2,3.4 5 0
`))
	want := map[string]share{"b/one": {5, 6}, "b/two": {0, 5}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(share{})); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestExitStatus(t *testing.T) {
	if code := run([]string{"-run", "^$", "berth/internal/testwait"}); code != 0 {
		t.Errorf("a run that passes exits with %d", code)
	}
	if code := run([]string{"berth/internal/there-is-none"}); code == 0 {
		t.Error("a run that fails exits with 0")
	}
}

func TestRunAgain(t *testing.T) {
	fails := func(pkg string, names ...string) (events []event) {
		for _, name := range names {
			events = append(events, event{Action: "output", Package: pkg, Test: name, Output: "    a_test.go:1: late\n"},
				event{Action: "fail", Package: pkg, Test: name})
		}
		return append(events, event{Action: "fail", Package: pkg})
	}
	says := func(text string) event { return event{Action: "output", Package: "b/one", Test: "TestA", Output: text} }
	for _, tc := range []struct {
		name   string
		events []event
		want   map[string][]string
	}{
		{"two tests of one and one of another",
			slices.Concat(fails("b/one", "TestA/x", "TestA/y", "TestA", "TestB"), fails("b/two", "TestA")),
			map[string][]string{"b/one": {"TestA", "TestB"}, "b/two": {"TestA"}}},
		{"a package that does not build", slices.Concat(fails("b/one", "TestA"), fails("b/two")), nil},
		{"too many", fails("b/one", "T1", "T2", "T3", "T4", "T5", "T6", "T7"), nil},
		{"a data race", slices.Concat([]event{says("WARNING: DATA RACE\n")}, fails("b/one", "TestA")), nil},
		{"a data race told in a test that passes", slices.Concat([]event{
			{Action: "output", Package: "b/one", Test: "TestB", Output: "WARNING: DATA RACE\n"}, {Action: "pass", Package: "b/one", Test: "TestB"},
		}, fails("b/one", "TestA")), nil},
		{"a panic", slices.Concat([]event{says("panic: oh [recovered]\n")}, fails("b/one", "TestA")), nil},
		{"a child's data race", slices.Concat([]event{says("        WARNING: DATA RACE\n")}, fails("b/one", "TestA")), nil},
		{"a package that ended in a test", slices.Concat([]event{{Action: "run", Package: "b/one", Test: "TestB"}}, fails("b/one", "TestA")), nil},
		{"a goroutine is left", slices.Concat([]event{
			{Action: "output", Package: "b/one", Output: "goleak: Errors on successful test run: found unexpected goroutines:\n"},
		}, fails("b/one")), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newReport(io.Discard)
			for _, e := range tc.events {
				r.add(e)
			}
			if diff := cmp.Diff(tc.want, r.toRunAgain()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	flags := []string{"-ldflags=-w"}
	var out strings.Builder
	if !runAgain(t.Context(), &out, flags, map[string][]string{"berth/internal/testreport": {"TestCoverage"}}) ||
		!strings.Contains(out.String(), "Once more, alone: berth/internal/testreport TestCoverage\n") {
		t.Errorf("a test that passes alone: %s", out.String())
	}
	if runAgain(t.Context(), &out, flags, map[string][]string{"berth/internal/there-is-none": {"TestA"}}) {
		t.Error("a test that fails alone too passes")
	}
	if runAgain(t.Context(), &out, flags, nil) {
		t.Error("nothing to run again is taken for a pass")
	}
}
