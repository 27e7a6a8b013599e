package survive_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"berth/internal/survive"
)

func TestDo(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	failed := errors.New("failed")
	if err := survive.Do(logger, "some work", func() error { return failed }); !errors.Is(err, failed) || log.Len() > 0 {
		t.Errorf("an error became %v, and the log says %q", err, log.String())
	}
	err := survive.Do(logger, "some work", func() error {
		panic("nil map")
	})
	bug, ok := errors.AsType[*survive.Error](err)
	if !ok || bug.What != "some work" || !strings.Contains(err.Error(), "nil map") {
		t.Errorf("a panic became %v", err)
	}
	for _, want := range []string{"[unexpected] panic", "some work", "survive_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
}
