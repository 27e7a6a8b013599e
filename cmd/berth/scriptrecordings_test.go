package main

import (
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/simcluster"
)

// cmdRecord has the cluster hold a recording.
func cmdRecord(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: record NAME [live]")
	}
	w := worldOf(ts)
	ended := time.Now().Add(-time.Hour)
	if args[0] == "hostile" {
		evil := "\x1b]0;owned\a\x1b]52;c;aGVsbG8=\a\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\\u202egnp.exe\u2066</script><script>alert(1)</script>\x1b[6n\xff\xfe\a\a\r\n"
		s := simcluster.PrintedSession("5e00000a-0000-4000-8000-00000000000a", evil, ended, time.Second, evil, "secret-12", "345\r\n", evil)
		s.User = "alice"
		w.Sim.Record(s)
		return
	}
	s, err := simcluster.Golden(args[0], "alice", ended)
	ts.Check(err)
	if len(args) == 2 {
		s.Running, s.Events = true, s.Events[:2]
	}
	w.Sim.Record(s)
}
