package recordings

import (
	"testing"

	"berth/agent/state"
)

// FuzzWords words events of any kind with any fields, and reads any size.
func FuzzWords(f *testing.F) {
	for _, kind := range []string{"session.start", state.EventResize, "session.command", "db.session.query", "unheard.of"} {
		f.Add(kind, []byte(`{"initial_command":["a",1],"size":"80:24","argv":["x"],"return_code":"7","db_query":"select 1"}`))
	}
	f.Add("exec", []byte(`{"command":{},"exitCode":1e99}`))
	f.Fuzz(func(t *testing.T, kind string, raw []byte) {
		_ = words(kind, raw) // it may be any text; it must not panic
		if cols, rows := size(string(raw)); cols < 0 || rows < 0 || cols > 1000 || rows > 1000 || (cols == 0) != (rows == 0) {
			t.Errorf("%q is %d by %d", raw, cols, rows)
		}
	})
}
