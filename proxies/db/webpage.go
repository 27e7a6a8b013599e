package db

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"

	"berth/proxies/internal/webpage"
)

const (
	// headMax is how long the head of a request may be: ClickHouse takes a query of
	// almost that much in the address.
	headMax = 1 << 20
	// methodMax is how much of a method is looked at.
	methodMax = 128
	// pageTimeout is how long a refused page may take to read why.
	pageTimeout = 500 * time.Millisecond
)

// secureHTTP is secureDirect for protocols of HTTP, which a web page can speak too.
func secureHTTP(f *Front) error {
	f.wary = true
	return f.direct(alpnHTTP)
}

// judge waits for the head of the client's next request, and lets Read return it
// unless it looks like a foreign web page's: then the client is refused. A client that
// is no browser is looked at once, a browser at each request, since all its pages
// share its connections.
func (f *Front) judge(v *via) error {
	size, err := f.head(v)
	if err != nil {
		return err
	}
	if size == 0 { // it is no HTTP, or no whole request comes
		f.wary, f.pass = false, len(f.said)
		return nil
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(f.said[:size])))
	if err != nil { // the server does not understand it either
		f.wary, f.pass = false, len(f.said)
		return nil
	}
	if why := fromPage(r); why != "" {
		return f.refusePage(v, http.StatusForbidden, "berth serves no web pages, and this request looks like one's: "+why, r)
	}
	// Browsers send no body in chunks.
	f.wary = r.ContentLength >= 0 && webpage.MayBeBrowser(r)
	f.pass = len(f.said)
	if f.wary {
		came := min(r.ContentLength, int64(len(f.said)-size)) // of the body
		f.pass, f.body = size+int(came), r.ContentLength-came
	}
	return nil
}

// head reads on until the client's next request has a whole head, and returns its
// size in bytes; 0 means that the client speaks no HTTP, or has ended before.
func (f *Front) head(v *via) (int, error) {
	buf := make([]byte, 4096)
	for seen := 0; ; {
		if len(f.said) > 0 && !mayBeHTTP(f.said) {
			return 0, nil
		}
		if at := endOfHead(f.said[seen:]); at > 0 {
			return seen + at, nil
		}
		if len(f.said) > headMax {
			return 0, f.refusePage(v, http.StatusRequestHeaderFieldsTooLarge, "this request's head is too long", nil)
		}
		seen = max(0, len(f.said)-2) // the rest of the end may come
		n, err := f.readFrom(v, buf)
		f.said = append(f.said, buf[:n]...)
		switch {
		case n > 0: // an error comes again
		case errors.Is(err, io.EOF) && len(f.said) > 0:
			return 0, nil
		case err != nil:
			return 0, err
		}
	}
}

// refusePage answers a request with why nothing of it is passed on, and gives its client
// a moment to read that. It returns what ends the connection.
func (f *Front) refusePage(v *via, status int, why string, r *http.Request) error {
	_ = f.SetDeadline(time.Now().Add(pageTimeout)) // fails on a closed connection only
	p := page{status: status, contentType: "text/plain; charset=utf-8", body: why + "\n"}
	if p.answer(v, r) == nil && v.closeWrite() == nil {
		_, _ = io.CopyN(io.Discard, f.tcp, headMax) // closing a socket with unread data would reset it
	}
	err := &StrangerError{Language: "HTTP of a web page"}
	f.said = nil
	f.decide(&via{failing{err}, failing{err}, f.tcp.CloseWrite, false})
	return err
}

// fromPage returns why a request looks like a foreign web page's; empty means that it
// does not. No client's certificate stands before this lock, so a page without an
// address, such as one in a sandbox, is refused too.
func fromPage(r *http.Request) string {
	if slices.Contains(r.Header["Origin"], "null") {
		return "it comes from a web page without an address"
	}
	return webpage.Foreign(r, func(host string) bool { return host == "" }) // browsers always name one
}

// mayBeHTTP reports whether what a client has said may begin a request of HTTP/1: a
// page chooses any word as the method.
func mayBeHTTP(said []byte) bool {
	line, _, whole := bytes.Cut(said, []byte("\n"))
	method, _, _ := bytes.Cut(line[:min(len(line), methodMax)], []byte(" "))
	return len(method) > 0 && !bytes.ContainsFunc(method, func(r rune) bool { return !httpguts.IsTokenRune(r) }) &&
		(!whole || bytes.Contains(line, []byte(" HTTP/1.")))
}

// endOfHead returns where the first empty line ends; 0: there is none yet.
func endOfHead(b []byte) int {
	for i := 0; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n
		switch rest := b[i+1:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return i + 2
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return i + 3
		}
	}
	return 0
}
