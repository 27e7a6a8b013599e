package main

import (
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
