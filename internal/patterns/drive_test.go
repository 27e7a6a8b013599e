package patterns

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// stub answers as it is told.
type stub struct {
	Backend

	ping   error
	closed bool
}

func (s *stub) Ping(context.Context) error { return s.ping }

func (s *stub) Databases(context.Context) ([]Database, error) { return make([]Database, 3), nil }

func (s *stub) WatchRequests(ctx context.Context, handle func(Request)) error {
	handle(Request{ID: "one", State: Approved})
	<-ctx.Done()
	return ctx.Err()
}

func (s *stub) Close() error { s.closed = true; return nil }

func TestDrive(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		ping     error
		out, err string
	}{
		{"answers", "ping\ndatabases\n", nil, "pong\ndatabases 3\n", ""},
		{"watches", "watch\n", nil, "request one approved\n", ""},
		{"fails", "ping\n", errors.New("away"), "", "away"},
		{"unknown", "dance\n", nil, "", `unknown command "dance"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &stub{ping: tt.ping}
			out := &strings.Builder{}
			open := func(context.Context, Config) (Backend, error) { return s, nil }
			err := drive(t.Context(), open, Config{}, strings.NewReader(tt.in), out)
			if out.String() != tt.out || !s.closed || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("it says %q, %v; want %q, %q; closed: %v", out, err, tt.out, tt.err, s.closed)
			}
		})
	}
	failing := errors.New("no login")
	open := func(context.Context, Config) (Backend, error) { return nil, failing }
	if err := drive(t.Context(), open, Config{}, strings.NewReader(""), io.Discard); !errors.Is(err, failing) {
		t.Errorf("drive without a login: %v", err)
	}
}
