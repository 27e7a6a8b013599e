package prompt

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newFake returns an Asker whose dialogs are f.
func newFake(log *slog.Logger, f func(context.Context, kind, Question) (string, error)) *Asker {
	a := New(Config{Logger: log})
	a.available = func() error { return nil }
	a.show = f
	return a
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, most := 0, 0
		answers := make(chan string)
		a := newFake(testLog(t), func(context.Context, kind, Question) (string, error) {
			open++
			most = max(most, open)
			defer func() { open-- }()
			return <-answers, nil
		})
		got := make(chan string, 16)
		for range maxWaiting + 1 {
			go func() {
				answer, err := a.Password(t.Context(), Question{})
				if err != nil {
					t.Errorf("Password() = %v", err)
				}
				got <- answer
			}()
		}
		synctest.Wait()
		if _, err := a.Code(t.Context(), Question{}); !errors.Is(err, errBusy) {
			t.Errorf("one too many: %v, want ErrBusy", err)
		}
		for range maxWaiting + 1 {
			answers <- "x"
			if answer := <-got; answer != "x" {
				t.Errorf("answer %q, want x", answer)
			}
			synctest.Wait()
		}
		if most != 1 {
			t.Errorf("%d dialogs were open at once, want 1", most)
		}
	})
}

func TestEnds(t *testing.T) {
	hangs := func(ctx context.Context, _ kind, _ Question) (string, error) {
		<-ctx.Done()
		return "half a pass", errors.New("signal: killed")
	}
	t.Run("limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newFake(testLog(t), hangs)
			start := time.Now()
			answer, err := a.Password(t.Context(), Question{})
			if answer != "" || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != defaultLimit {
				t.Errorf("Password() = %q, %v after %v, want that time ran out after %v", answer, err, time.Since(start), defaultLimit)
			}
		})
	})
	t.Run("canceled_while_open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newFake(testLog(t), hangs)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if err := a.Confirm(ctx, Question{}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrCanceled) {
				t.Errorf("Confirm() = %v, want context.Canceled, which is no refusal", err)
			}
		})
	})
	t.Run("canceled_while_waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newFake(testLog(t), hangs)
			first, cancel := context.WithCancel(t.Context())
			go func() { _, _ = a.Password(first, Question{}) }()
			synctest.Wait()
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			if _, err := a.Password(ctx, Question{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Password() = %v, want that time ran out", err)
			}
			cancel()
			synctest.Wait()
			if len(a.turn) != 0 || len(a.queue) != 0 {
				t.Errorf("%d hold the turn and %d the queue, want none", len(a.turn), len(a.queue))
			}
		})
	})
}

// TestAReportBlocksNothing: a password is asked for while a report is read.
func TestAReportBlocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFake(testLog(t), func(ctx context.Context, k kind, _ Question) (string, error) {
			if k == kindReport {
				<-ctx.Done()
			}
			return "x", nil
		})
		ctx, closed := context.WithCancel(t.Context())
		defer closed()
		go func() { _ = a.Report(ctx, Question{Text: "long"}) }()
		synctest.Wait()
		if answer, err := a.Password(t.Context(), Question{}); answer != "x" || err != nil {
			t.Errorf("Password() = %q, %v", answer, err)
		}
	})
}

func TestSaysNothingOfTheAnswer(t *testing.T) {
	var log bytes.Buffer
	a := newFake(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		func(context.Context, kind, Question) (string, error) { return "hunter2", nil })
	if answer, err := a.Password(t.Context(), Question{}); answer != "hunter2" || err != nil {
		t.Errorf("Password() = %q, %v", answer, err)
	}
	a.show = func(context.Context, kind, Question) (string, error) { return strings.Repeat("hunter2", 1000), nil }
	answer, err := a.Password(t.Context(), Question{})
	if answer != "" || err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Password() = %.20q, %v, want that it is too long", answer, err)
	}
	if !strings.Contains(log.String(), "dialog answered") || strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log says:\n%s", log.String())
	}
}

func TestCleansQuestions(t *testing.T) {
	var got Question
	a := newFake(testLog(t), func(_ context.Context, _ kind, q Question) (string, error) { got = q; return "", nil })
	_ = a.Confirm(t.Context(), Question{Title: "Log in\nto \x1b[31mx", Text: "For \u202ealice\n\n\nok?", OK: strings.Repeat("y", 99), Cancel: "N\x00o"})
	want := Question{Title: "Log in to x", Text: "For alice\nok?", OK: strings.Repeat("y", 29) + "…", Cancel: "No"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the dialog was asked (-want +got):\n%s", diff)
	}
}

func TestUnavailable(t *testing.T) {
	a := newFake(testLog(t), nil)
	a.available = func() error { return &UnavailableError{Reason: "there is no display", Hint: "berth login"} }
	_, err := a.Password(t.Context(), Question{})
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || errors.Is(err, ErrCanceled) || a.Available() == nil {
		t.Errorf("Password() = %v, want an UnavailableError", err)
	}
}
