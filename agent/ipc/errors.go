package ipc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"berth/agent/ipc/berthv1"
	"berth/internal/plain"
)

// Code is the class of a failed call: what a program decides by.
type Code string

// The classes of failed calls.
const (
	CodeNotRunning  Code = "not_running"  // no agent answers at the address
	CodeLoginNeeded Code = "login_needed" // no valid session to do it with
	CodeNotFound    Code = "not_found"    // the thing named does not exist
	CodeExists      Code = "exists"       // a thing of that name exists already
	CodeInvalid     Code = "invalid"      // the request makes no sense
	CodeDenied      Code = "denied"       // the agent or the cluster refused
	CodeWrongSecret Code = "wrong_secret" // the user name, password or code is wrong: ask again
	CodeConfirm     Code = "confirm"      // it would do more than was asked: ask the person
	CodeTimeout     Code = "timeout"      // it took too long
	CodeUnsupported Code = "unsupported"  // the agent is too old, or the system cannot
	CodeTSHMissing  Code = "tsh_missing"  // the agent finds no tsh
	CodeFailed      Code = "failed"       // anything else that went wrong
	CodeInternal    Code = "internal"     // a bug in berth
)

// ErrNotRunning and ErrLoginNeeded are matched by every [Error] of their code,
// for errors.Is.
var (
	ErrNotRunning = &Error{
		Code:    CodeNotRunning,
		Message: "the agent is not running",
		Hint:    `start it with "berth agent install"`,
	}
	ErrLoginNeeded = &Error{
		Code:    CodeLoginNeeded,
		Message: "a login is needed",
		Hint:    `log in with "berth login"`,
	}
)

// Error is the answer to a failed call: the cause, the next step and the class.
type Error struct {
	Code    Code
	Message string // lower case, no full stop
	Hint    string // the next step, for a person; empty when there is none

	cause error
}

// Error returns the message without the hint: the caller prints that apart.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what lies beneath; nil when the error came over the wire.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

var grpcCodes = map[Code]codes.Code{
	CodeNotRunning:  codes.Unavailable,
	CodeLoginNeeded: codes.Unauthenticated,
	CodeNotFound:    codes.NotFound,
	CodeExists:      codes.AlreadyExists,
	CodeInvalid:     codes.InvalidArgument,
	CodeDenied:      codes.PermissionDenied,
	CodeConfirm:     codes.Aborted,
	CodeTimeout:     codes.DeadlineExceeded,
	CodeUnsupported: codes.Unimplemented,
	CodeFailed:      codes.FailedPrecondition,
	CodeInternal:    codes.Internal,
}

// toStatus turns what a backend returned into the error of a gRPC handler.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	e := &Error{}
	switch {
	case errors.As(err, &e):
		// A wrapper may have put more words around the Error: keep them.
		e = &Error{Code: e.Code, Message: err.Error(), Hint: e.Hint}
	case errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	case errors.Is(err, context.DeadlineExceeded):
		e = &Error{Code: CodeTimeout, Message: err.Error()}
	default:
		e = &Error{Code: CodeFailed, Message: err.Error()}
	}
	code, ok := grpcCodes[e.Code]
	if !ok {
		code = codes.Unknown
	}
	st := status.New(code, utf8(e.Message))
	detail := &berthv1.ErrorDetail{Code: string(e.Code), Hint: utf8(e.Hint)}
	if with, err := st.WithDetails(detail); err == nil {
		st = with
	}
	return st.Err()
}

// FromStatus turns the error of a gRPC call into an [*Error]. An error that is
// none of gRPC's is returned as it is.
func FromStatus(err error) error {
	st, ok := status.FromError(err)
	if !ok || st == nil || st.Code() == codes.OK {
		return err
	}
	for _, d := range st.Details() {
		if d, ok := d.(*berthv1.ErrorDetail); ok {
			return &Error{Code: Code(d.GetCode()), Message: st.Message(), Hint: d.GetHint()}
		}
	}
	e := &Error{Code: CodeFailed, Message: st.Message()}
	switch st.Code() {
	case codes.Canceled:
		e.cause = context.Canceled
	case codes.DeadlineExceeded:
		e.Code, e.cause = CodeTimeout, context.DeadlineExceeded
		e.Message = "the agent did not answer in time"
		e.Hint = "look at the agent's log"
	case codes.Unimplemented:
		e.Code = CodeUnsupported
		e.Message = "the running agent does not know this command"
		e.Hint = "it is older than this program: stop it and start it again"
	case codes.Unavailable:
		e.Code = CodeNotRunning
		e.Message = "the connection to the agent broke"
		e.Hint = ErrNotRunning.Hint
	case codes.ResourceExhausted: // gRPC's words count the bytes
		e.Message = fmt.Sprintf("a message is larger than the agent's socket carries (%d MB for an answer): %s", MaxReplyBytes>>20, st.Message())
		e.Hint = "ask for less at a time"
	default:
		for code, c := range grpcCodes {
			if c == st.Code() {
				e.Code = code
			}
		}
	}
	return e
}

// utf8 replaces what protobuf would refuse to carry.
func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// UnknownTunnel is the answer to a call that names a tunnel the config lacks. It
// suggests the one of the others that was probably meant; a caller that would
// destroy something names none.
func UnknownTunnel(name string, others ...string) *Error {
	e := &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no tunnel %q", name), Hint: `see "berth tunnel ls"`}
	if ask := plain.DidYouMean(name, others); ask != "" {
		e.Hint = ask
	}
	return e
}
