package ipc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestErrorsOverTheWire(t *testing.T) {
	login := &Error{Code: CodeLoginNeeded, Message: "no valid session for example.com", Hint: "berth login"}
	tests := []struct {
		name     string
		in       error
		wire     codes.Code
		code     Code
		message  string
		hint     string
		matching error
	}{
		{"typed", login, codes.Unauthenticated, CodeLoginNeeded, login.Message, login.Hint, ErrLoginNeeded},
		{"wrapped_keeps_words", fmt.Errorf("list: %w", login), codes.Unauthenticated, CodeLoginNeeded,
			"list: " + login.Message, login.Hint, ErrLoginNeeded},
		{"plain", errors.New("disk full"), codes.FailedPrecondition, CodeFailed, "disk full", "", nil},
		{"deadline", fmt.Errorf("ask: %w", context.DeadlineExceeded), codes.DeadlineExceeded, CodeTimeout,
			"ask: context deadline exceeded", "", nil},
		{"not_utf8", &Error{Code: CodeInvalid, Message: "name \xff", Hint: "\xfe"}, codes.InvalidArgument,
			CodeInvalid, "name \uFFFD", "\uFFFD", nil},
		{"code_of_a_newer_agent", &Error{Code: "brand_new", Message: "m"}, codes.Unknown, "brand_new", "m", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wire := toStatus(tt.in)
			if got := status.Code(wire); got != tt.wire {
				t.Errorf("gRPC code = %v, want %v", got, tt.wire)
			}
			var e *Error
			if !errors.As(FromStatus(wire), &e) {
				t.Fatalf("FromStatus(%v) is no *Error", wire)
			}
			if e.Code != tt.code || e.Message != tt.message || e.Hint != tt.hint {
				t.Errorf("got %q %q %q, want %q %q %q", e.Code, e.Message, e.Hint, tt.code, tt.message, tt.hint)
			}
			if tt.matching != nil && !errors.Is(e, tt.matching) {
				t.Errorf("%v does not match its sentinel", e)
			}
			if errors.Is(e, ErrNotRunning) {
				t.Errorf("%v matches ErrNotRunning", e)
			}
		})
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for code, grpcCode := range grpcCodes {
		var e *Error
		if !errors.As(FromStatus(status.Error(grpcCode, "bare")), &e) || e.Code != code {
			t.Errorf("bare status %v becomes %+v, want code %q", grpcCode, e, code)
		}
	}
}

func TestFromStatusLeavesOthersAlone(t *testing.T) {
	plain := errors.New("not of gRPC")
	if got := FromStatus(plain); got != plain { //nolint:errorlint // the very same value is wanted
		t.Errorf("FromStatus(%v) = %v", plain, got)
	}
	if got := FromStatus(nil); got != nil {
		t.Errorf("FromStatus(nil) = %v", got)
	}
	if got := FromStatus(status.FromContextError(context.Canceled).Err()); !errors.Is(got, context.Canceled) {
		t.Errorf("a cancelled call gives %v, want context.Canceled beneath", got)
	}
}
