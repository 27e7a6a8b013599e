package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"berth/internal/plain"
	"berth/proxies"
)

// Refusal is why a request is not served, as Kubernetes' clients print it.
type Refusal struct {
	// Code is the HTTP status, from which Kubernetes' word for it follows.
	Code int
	// Message is one sentence, or a few, with the next step.
	Message string
}

// reasons are Kubernetes' words for the codes used here. Source: apimachinery,
// meta/v1, StatusReason.
var reasons = map[int]string{
	http.StatusBadRequest:          "BadRequest",
	http.StatusUnauthorized:        "Unauthorized",
	http.StatusForbidden:           "Forbidden",
	http.StatusNotFound:            "NotFound",
	http.StatusTooManyRequests:     "TooManyRequests",
	http.StatusInternalServerError: "InternalError",
	http.StatusServiceUnavailable:  "ServiceUnavailable",
	http.StatusGatewayTimeout:      "Timeout",
}

// status is a Kubernetes Status object: what an API server answers in place of
// what was asked for.
type status struct {
	Kind       string   `json:"kind"`
	APIVersion string   `json:"apiVersion"`
	Metadata   struct{} `json:"metadata"`
	Status     string   `json:"status"`
	Message    string   `json:"message"`
	Reason     string   `json:"reason,omitempty"`
	Code       int      `json:"code"`
}

// messageMax is the longest message sent, in bytes.
const messageMax = 2000

func (r Refusal) body() []byte {
	s := status{
		Kind: "Status", APIVersion: "v1", Status: "Failure",
		Message: cleanText(r.Message), Reason: reasons[r.Code], Code: r.Code,
	}
	b, err := json.Marshal(s)
	if err != nil { // it is made of texts and a number
		panic("kube: " + err.Error())
	}
	return append(b, '\n')
}

// write answers req with r. There is no Retry-After: with one, clients would
// try ten more times, each held again.
func (r Refusal) write(w http.ResponseWriter, req *http.Request) {
	body, contentType := r.body(), "application/json"
	if readRaw(req.URL.Path) {
		// client-go does not look for a Status in the answers to these. The
		// one message it passes on unchanged is that of a 403 in plain text.
		r.Code, body, contentType = http.StatusForbidden, []byte(cleanText(r.Message)+"\n"), "text/plain; charset=utf-8"
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, private")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.Code)
	_, _ = w.Write(body) // the client may have gone
}

// readRaw reports whether clients read the answer themselves rather than
// through their usual decoder: when they ask what the cluster has.
func readRaw(path string) bool {
	first, _, _ := strings.Cut(strings.Trim(path, "/"), "/")
	switch strings.Trim(path, "/") {
	case "api", "apis", "version":
		return true
	}
	return first == "openapi"
}

// cleanText makes text harmless for terminals, and of bounded length.
func cleanText(s string) string {
	s = strings.TrimSpace(plain.Text(s))
	if len(s) > messageMax {
		s = plain.Head(s, messageMax) + "…"
	}
	return s
}

// plainRefusal is the refusal of a tunnel without Config.Refuse.
func plainRefusal(err error) Refusal {
	code := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, proxies.ErrHoldEnded):
		code = http.StatusUnauthorized
	case errors.Is(err, context.DeadlineExceeded):
		code = http.StatusGatewayTimeout
	}
	return Refusal{Code: code, Message: "berth: " + err.Error()}
}

const (
	// whoToBe is how Teleport says that a user may be several in Kubernetes,
	// and that the request does not say which.
	whoToBe = "please select a user to impersonate"
	// peekMax is how much of an error is read to look for that.
	peekMax = 64 << 10
)

// explainForbidden looks for an error that a setting of berth's would mend,
// and says so in its place.
func explainForbidden(resp *http.Response, hint string) error {
	if resp.StatusCode != http.StatusForbidden || hint == "" {
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, peekMax))
	if err != nil {
		return err
	}
	if !bytes.Contains(head, []byte(whoToBe)) {
		resp.Body = &spliced{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
		return nil
	}
	_ = resp.Body.Close() // what it says is known
	body := Refusal{Code: http.StatusForbidden, Message: forbiddenText(head) + ". " + hint}.body()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Type", "application/json")
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	resp.Header.Del("Content-Encoding")
	resp.TransferEncoding = nil
	return nil
}

// forbiddenText is the sentence in an answer that has whoToBe in it: a Status,
// another JSON object, or plain text.
func forbiddenText(body []byte) string {
	var s struct {
		Message string `json:"message"`
		Error   struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &s) == nil {
		for _, m := range []string{s.Message, s.Error.Message} {
			if strings.Contains(m, whoToBe) {
				return strings.TrimRight(m, ". \n")
			}
		}
	}
	return whoToBe
}

// spliced reads from one and closes another.
type spliced struct {
	io.Reader
	io.Closer
}
