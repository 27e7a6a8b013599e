package tsh

import (
	"errors"
	"regexp"
	"strings"
	"unicode"

	"berth/agent/state"
	"berth/internal/plain"
)

// What tsh prints while it logs in, of all versions known.
var (
	passwordPrompt = regexp.MustCompile(`^Enter password for Teleport user .+:$`)
	otpPrompt      = regexp.MustCompile(`(?i)^(Enter|Tap any security key or enter) .*\b(OTP|one-time)\b.*`)
	togetherPrompt = regexp.MustCompile(`(?i)^Enter your OTP token\b`) // of older versions
	tapPrompt      = regexp.MustCompile(`(?i)^(Tap (any|your|a)( registered)? security key|Touch (any|your) )`)
	pinPrompt      = regexp.MustCompile(`(?i)^Enter your( \S+)? security key PIN:?$`)
	urlBefore      = regexp.MustCompile(
		`(?i)^(Use the following URL to authenticate|If browser window does not open automatically, open it by clicking on the link):$`)
	urlLine = regexp.MustCompile(`^https?://\S+$`)
	// approvalLine is said where roles make a login an access request.
	approvalLine = regexp.MustCompile(`(?i)^Waiting for request approval`)
	// uninteresting lines say what berth knows or did on purpose.
	uninteresting = regexp.MustCompile(`^(WARNING: Ignoring Teleport user|WARNING: You are using insecure connection)`)
)

func announcesURL(line string) bool { return urlBefore.MatchString(line) }

// readPrompt says what a line asks for. What is not known is shown, not
// guessed; a Prompt without a kind is not worth showing.
func readPrompt(line string, urlExpected bool) Prompt {
	shown := clip(oneLine(line), maxError)
	switch {
	case urlExpected && urlLine.MatchString(line):
		return Prompt{Kind: state.LoginURL, URL: line, Text: "Log in with your browser."}
	case passwordPrompt.MatchString(line):
		return Prompt{Kind: state.LoginPassword, Text: shown}
	case otpPrompt.MatchString(line):
		return Prompt{Kind: state.LoginOTP, Text: shown, Together: togetherPrompt.MatchString(line)}
	case pinPrompt.MatchString(line):
		return Prompt{Kind: state.LoginPIN, Text: shown}
	case tapPrompt.MatchString(line):
		return Prompt{Kind: state.LoginTap, Text: shown}
	case shown == "", strings.HasPrefix(line, "ERROR:"), uninteresting.MatchString(line):
		return Prompt{} // how tsh ends carries the error
	default:
		return Prompt{Kind: state.LoginInfo, Text: shown}
	}
}

// loginErrors are what tsh says of a login that failed, and what it means.
var loginErrors = []struct {
	says   *regexp.Regexp
	reason error
}{
	{regexp.MustCompile(`(?i)invalid username(,)? (or )?password|invalid credentials|invalid (one time|OTP|MFA) token`), ErrBadLogin},
	{regexp.MustCompile(`(?i)invalid connector name|connector .* (is )?not found`), ErrUnknownConnector},
	{regexp.MustCompile(`(?i)signed by a?n? ?unknown authority|certificate is not trusted|x509:`), ErrProxyUntrusted},
	{regexp.MustCompile(`lock targeting .* is in force`), ErrLocked},
	{regexp.MustCompile(`(?i)identity provider callback failed`), ErrLoginRefused},
	{regexp.MustCompile(`(?i)timed out waiting for callback`), ErrLoginTimeout},
	{regexp.MustCompile(`(?i)without a terminal|not a terminal`), ErrNoTerminal},
	{regexp.MustCompile(`(?i)connection refused|no such host|i/o timeout|no route to host|network is unreachable|` +
		`deadline exceeded|connection reset|\bEOF\b|handshake failure`), ErrProxyUnreachable},
}

// loginError classifies a login that ended with err.
func loginError(said []string, err error) error {
	text := lastWords(said, err)
	all := strings.Join(said, "\n")
	for _, e := range loginErrors {
		// tsh says that a certificate is not trusted in a warning.
		if e.says.MatchString(text) || e.reason == ErrProxyUntrusted && e.says.MatchString(all) { //nolint:errorlint // a row of the table
			return &LoginError{Reason: e.reason, Text: text, Err: err}
		}
	}
	return &LoginError{Reason: errLoginFailed, Text: text, Err: err}
}

// lastWords is what is said of a login that ended with err: tsh's last words, but of
// one that did not come to say why how it ended.
func lastWords(said []string, err error) string {
	if exit, ok := errors.AsType[*ExitError](err); ok && exit.Text == "" {
		return exit.Error()
	}
	return lastError(said)
}

// screenWriter passes a stream on to lines, and takes a prompt that waits at
// the end of an unfinished line for a line: some versions end it so.
type screenWriter struct{ lines *lineWriter }

// Write takes the next bytes of the stream.
func (w *screenWriter) Write(p []byte) (int, error) {
	n, err := w.lines.Write(p)
	w.lines.mu.Lock()
	rest := plain.Line(string(w.lines.buf))
	w.lines.mu.Unlock()
	rest = strings.TrimFunc(rest, unicode.IsSpace)
	if strings.HasSuffix(rest, ":") && (passwordPrompt.MatchString(rest) || otpPrompt.MatchString(rest)) {
		w.lines.flush()
	}
	return n, err
}
