package cluster

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/gravitational/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// UnknownRequestError says that the user has, and may review, no access
// request of that id. The server says the same of requests of others.
type UnknownRequestError struct{ ID string }

func (e *UnknownRequestError) Error() string {
	return fmt.Sprintf("there is no access request %q that you may see", e.ID)
}

// NotAssumableError says why the roles of a request cannot be taken now.
type NotAssumableError struct {
	Why string // "denied", "pending", "promoted", "expired" or "early"
	Err error  // in the server's words
}

func (e *NotAssumableError) Error() string { return e.Err.Error() }

func (e *NotAssumableError) Unwrap() error { return e.Err }

// CannotReviewError says that the user may neither review a request nor set
// its state.
type CannotReviewError struct {
	User, ID string
	Err      error
}

func (e *CannotReviewError) Error() string {
	return fmt.Sprintf("%s may not decide access request %s through the cluster's interface: none of the roles allows to review it or to set its state",
		e.User, e.ID)
}

func (e *CannotReviewError) Unwrap() error { return e.Err }

// assumeRefusals are the auth service's words for what is not assumable.
var assumeRefusals = []struct {
	words *regexp.Regexp
	why   string
}{
	{regexp.MustCompile(`access request "[^"]*" has been denied`), "denied"},
	{regexp.MustCompile(`access request "[^"]*" is awaiting approval`), "pending"},
	{regexp.MustCompile(`access request "[^"]*" has been promoted`), "promoted"},
	{regexp.MustCompile(`access request "[^"]*" has expired`), "expired"},
	{regexp.MustCompile(`access request "[^"]*" can not be assumed until`), "early"},
}

// requestError returns the typed error for what the auth service says of a
// request, or err itself.
func requestError(id string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if trace.IsNotFound(err) || strings.Contains(text, "access request") && strings.Contains(text, "not found") {
		return &UnknownRequestError{ID: id}
	}
	for _, r := range assumeRefusals {
		if r.words.MatchString(text) {
			return &NotAssumableError{Why: r.why, Err: err}
		}
	}
	return err
}

// isUnimplemented reports whether the server does not know a call.
func isUnimplemented(err error) bool {
	return trace.IsNotImplemented(err) || status.Code(err) == codes.Unimplemented
}
