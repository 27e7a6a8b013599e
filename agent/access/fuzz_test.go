package access

import (
	"testing"
	"time"
)

// FuzzTSHList reads what tsh, or something in its place, prints: requests that can
// be drawn, or an error.
func FuzzTSHList(f *testing.F) {
	f.Add([]byte(`[{"kind":"access_request","metadata":{"name":"a"},"spec":{"user":"u","roles":["dba"],"state":2}}]`))
	f.Add([]byte("null"))
	f.Add([]byte(`[null,{"metadata":{"name":"b","expires":"9999-12-31T23:59:59Z"},"spec":{"created":"0001-01-01T00:00:00Z"}}]`))
	f.Fuzz(func(t *testing.T, out []byte) {
		list, err := parseList(out)
		if err != nil && len(list) > 0 {
			t.Errorf("%d requests with %v", len(list), err)
		}
		for _, r := range list {
			if drawn := Draw(r, Who{User: "u"}, time.Now()); drawn.ID == "" {
				t.Errorf("%v has no name", r)
			}
		}
	})
}
