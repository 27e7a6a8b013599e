package simkube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// apiError is a refusal, sent as a Status object.
type apiError struct {
	code    int
	reason  string
	message string
	details object
}

// Error returns the message.
func (e *apiError) Error() string { return e.message }

func details(res *resource, name string) object {
	d := object{"kind": res.plural}
	if res.group != "" {
		d["group"] = res.group
	}
	if name != "" {
		d["name"] = name
	}
	return d
}

func notFound(res *resource, name string) error {
	return &apiError{http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", res.qualified(), name), details(res, name)}
}

func alreadyExists(res *resource, name string) error {
	return &apiError{
		http.StatusConflict, "AlreadyExists", fmt.Sprintf("%s %q already exists", res.qualified(), name), details(res, name),
	}
}

func conflict(res *resource, name string) error {
	return &apiError{
		http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on %s %q: the object has been modified; "+
			"please apply your changes to the latest version and try again", res.qualified(), name), details(res, name),
	}
}

func badRequest(message string) error {
	return &apiError{code: http.StatusBadRequest, reason: "BadRequest", message: message}
}

func unsupportedMedia(got string) error {
	return &apiError{
		code: http.StatusUnsupportedMediaType, reason: "UnsupportedMediaType",
		message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: application/json, "+
			"application/yaml (was %q)", got),
	}
}

func expired() error {
	return &apiError{code: http.StatusGone, reason: "Expired", message: "too old resource version"}
}

func methodNotAllowed() error {
	return &apiError{
		code: http.StatusMethodNotAllowed, reason: "MethodNotAllowed",
		message: "the server does not allow this method on the requested resource",
	}
}

// noSuchPath is the answer where nothing is served.
func noSuchPath() error {
	return &apiError{
		code: http.StatusNotFound, reason: "NotFound", message: "the server could not find the requested resource", details: object{},
	}
}

// status returns the Status object of an error.
func status(err error) (int, object) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{code: http.StatusInternalServerError, reason: "InternalError", message: err.Error()}
	}
	o := object{
		"kind": "Status", "apiVersion": "v1", "metadata": object{},
		"status": "Failure", "message": e.message, "reason": e.reason, "code": e.code,
	}
	if e.details != nil {
		o["details"] = e.details
	}
	return e.code, o
}

// WriteStatus answers a request with a Status object, as Kubernetes does for
// every refusal.
func WriteStatus(w http.ResponseWriter, code int, reason, message string) {
	writeErr(w, &apiError{code: code, reason: reason, message: message})
}

func writeErr(w http.ResponseWriter, err error) {
	code, o := status(err)
	writeJSON(w, code, o)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	writeBody(w, v)
}

func writeBody(w http.ResponseWriter, v any) {
	_ = json.NewEncoder(w).Encode(v) // a client that hung up needs no answer
}

func writeRaw(w http.ResponseWriter, code int, raw []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(raw) // the client may be gone
}
