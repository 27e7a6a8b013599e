package db

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

// alpnHTTP is the version of HTTP that Teleport's database services speak.
const alpnHTTP = "http/1.1"

// page is an answer to an HTTP request.
type page struct {
	status      int
	contentType string
	header      map[string]string // beside the usual ones
	body        string
}

// ownServer is the server that berth's own pages name.
const ownServer = "berth"

// refuseHTTP answers the first request with what write makes. The request's
// body is left unread: no client waits for it to be.
func refuseHTTP(write func(Refusal) page) refuser {
	return func(client io.ReadWriter, r Refusal) error {
		return answerHTTP(client, bufio.NewReader(client), write(r))
	}
}

func answerHTTP(client io.Writer, in *bufio.Reader, p page) error {
	req, err := http.ReadRequest(in)
	var gone net.Error
	switch {
	case err == nil:
		return p.answer(client, req)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &gone):
		return err
	default:
		return fmt.Errorf("%w: %w", errGarbage, err)
	}
}

// answer writes p and announces the end of the connection.
func (p page) answer(w io.Writer, req *http.Request) error {
	resp := http.Response{
		StatusCode: p.status, ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {p.contentType}, "Cache-Control": {"no-store"}, "Server": {ownServer}},
		Body:          io.NopCloser(strings.NewReader(p.body)),
		ContentLength: int64(len(p.body)),
		Request:       req, // the answer to a HEAD has no body
		Close:         true,
	}
	if p.status == http.StatusServiceUnavailable {
		resp.Header.Set("Retry-After", "5") // a person is needed, so not at once
	}
	for key, value := range p.header {
		resp.Header.Set(key, value)
	}
	return resp.Write(w)
}

func httpStatus(kind RefusalKind) int {
	switch kind {
	case RefusalDenied, RefusalMFA:
		return http.StatusForbidden
	case RefusalUnknown:
		return http.StatusNotFound
	default:
		return http.StatusServiceUnavailable
	}
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // it is made of texts, numbers and maps
		panic("db: " + err.Error())
	}
	return string(b) + "\n"
}

var httpMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodOptions,
}

// isHTTP knows a request by its method.
func isHTTP(first []byte) bool {
	method, _, found := strings.Cut(string(first[:min(len(first), len(http.MethodOptions)+1)]), " ")
	return found && slices.Contains(httpMethods, method)
}

// isHTTPRequest knows a request by its first line, or by what there is of it.
func isHTTPRequest(first []byte) bool {
	line, _, whole := bytes.Cut(first, []byte("\n"))
	return isHTTP(first) && (!whole || bytes.Contains(line, []byte(" HTTP/1.")))
}

// http2Preface is how HTTP/2 begins without TLS.
const http2Preface = "PRI * HTTP/2.0"

// httpOpens knows a request by its method.
func httpOpens(first []byte) verdict {
	switch {
	case isHTTP(first), bytes.HasPrefix(first, []byte(http2Preface)):
		return verdictOurs
	case len(first) > len(http.MethodOptions) || bytes.ContainsFunc(first, func(r rune) bool { return r < 'A' || r > 'Z' }):
		return verdictForeign
	default:
		return verdictShort
	}
}

func httpURL(e Endpoint) string {
	return makeURL(e.scheme(), "", e, "")
}

// httpAnswers looks at the first response. One that denies access refuses the
// client, and so does an error of Teleport's own, which has no length and ends
// with the connection, and berth's own. Other errors are answers to what was asked.
func httpAnswers(said, _ []byte, ended bool) answer {
	head, body, whole := bytes.Cut(said, []byte("\r\n\r\n"))
	if !whole {
		return answer{}
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(head), strings.NewReader("\r\n\r\n"))), nil)
	if err != nil {
		return served // nothing that berth knows
	}
	_ = resp.Body.Close() // it reads from memory
	denied := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
	own := resp.Close && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0
	refusal := resp.Header.Get("Server") == ownServer
	switch {
	case !denied && !refusal && (!own || resp.StatusCode < http.StatusInternalServerError):
		return served
	case own && !ended, int64(len(body)) < min(resp.ContentLength, hearMax/2) && !ended:
		return answer{} // the words are not whole
	}
	by := ByDatabase
	switch {
	case refusal:
		by = ByBerth
	case own:
		by = ByTeleport
	}
	return answer{refused: refusedBy(by, httpWords(resp, body))}
}

// httpWords returns what a response says of its error.
func httpWords(resp *http.Response, body []byte) string {
	var doc struct {
		Reason  string          `json:"reason"`
		Message string          `json:"message"`
		Error   json.RawMessage `json:"error"`
	}
	var inner struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(body, &doc); err == nil {
		_ = json.Unmarshal(doc.Error, &inner) // it may be a text
		if words := cmp.Or(doc.Reason, doc.Message, inner.Reason); words != "" {
			return words
		}
		return resp.Status
	}
	if kind := resp.Header.Get("Content-Type"); kind == "" || strings.HasPrefix(kind, "text/plain") {
		return cmp.Or(strings.TrimSpace(string(body)), resp.Status)
	}
	return resp.Status
}

func (e Endpoint) scheme() string { return e.secure([]string{"https"}, []string{"http"})[0] }

func curl(e Endpoint) []string {
	return append(args([]string{"curl"}, "--cacert", e.CA), httpURL(e)+"/")
}

// httpNoCA are the formats of a URL and of the variables with it.
var httpNoCA = []Format{URL, Env}
