package db

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// page is an answer to an HTTP request.
type page struct {
	status      int
	contentType string
	header      map[string]string // beside the usual ones
	body        string
}

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
		Header:        http.Header{"Content-Type": {p.contentType}, "Cache-Control": {"no-store"}},
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

// wholeLine is all of r in one line, where length is no matter.
func (r Refusal) wholeLine() string { return r.line(titleMax + textMax + hintMax) }

// elasticPage is an error of Elasticsearch and OpenSearch. Source:
// Elasticsearch REST APIs, "Error responses" (common options).
func elasticPage(r Refusal) page {
	kind, status := "status_exception", httpStatus(r.Kind)
	switch status {
	case http.StatusForbidden:
		kind = "security_exception"
	case http.StatusNotFound:
		kind = "resource_not_found_exception"
	}
	cause := map[string]any{"type": kind, "reason": r.wholeLine()}
	whole := map[string]any{"type": kind, "reason": r.wholeLine(), "root_cause": []any{cause}}
	return page{
		status: status, contentType: "application/json",
		body: jsonText(map[string]any{"error": whole, "status": status}),
	}
}

// dynamoPage is an error of DynamoDB. Source: Amazon DynamoDB developer guide,
// "Error handling": the part of __type after the "#" is the error's name.
func dynamoPage(r Refusal) page {
	name, status := "ServiceUnavailable", httpStatus(r.Kind)
	switch status {
	case http.StatusForbidden:
		name = "AccessDeniedException"
	case http.StatusNotFound:
		name = "ResourceNotFoundException"
	}
	return page{
		status: status, contentType: "application/x-amz-json-1.0",
		body: jsonText(map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + name, "message": r.wholeLine()}),
	}
}

// snowflakePage is a failed login, or any other failed call. Snowflake says so
// with status 200; to others its drivers retry for minutes and print no text.
// Source: auth.go and retry.go of gosnowflake, which reads the code as a
// number. 390422 is "not allowed to access Snowflake".
func snowflakePage(r Refusal) page {
	return page{
		status: http.StatusOK, contentType: "application/json",
		body: jsonText(map[string]any{"success": false, "code": "390422", "message": r.wholeLine(), "data": nil}),
	}
}

// clickHousePage is an exception of ClickHouse. Source: ClickHouse
// documentation, "HTTP Interface".
func clickHousePage(r Refusal) page {
	code, name := clickHouseCode(r.Kind)
	return page{
		status: httpStatus(r.Kind), contentType: "text/plain; charset=UTF-8",
		header: map[string]string{"X-ClickHouse-Exception-Code": strconv.Itoa(code)},
		body:   fmt.Sprintf("Code: %d. DB::Exception: %s (%s)\n", code, r.wholeLine(), name),
	}
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // it is made of texts, numbers and maps
		panic("db: " + err.Error())
	}
	return string(b) + "\n"
}
