package autostart

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestQuoteExec(t *testing.T) {
	cases := map[string]struct{ in, want string }{
		"plain":     {"/usr/bin/berth", "/usr/bin/berth"},
		"blank":     {"/my apps/berth", `"/my apps/berth"`},
		"percent":   {"/50%/berth", "/50%%/berth"},
		"quote":     {`/a"b`, `"/a\\"b"`},
		"dollar":    {"/a$b", `"/a\\$b"`},
		"backslash": {`/a\b`, `"/a\\\\b"`},
		"newline":   {"/a\nExec=evil", `"/a\nExec=evil"`},
		"empty":     {"", `""`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := quoteExec(c.in); got != c.want {
				t.Errorf("quoteExec(%q) = %s, want %s", c.in, got, c.want)
			}
		})
	}
}

// TestLaunchAgentIsXML: a path cannot break out of its element.
func TestLaunchAgentIsXML(t *testing.T) {
	dec := xml.NewDecoder(strings.NewReader(string(launchAgent(Entry{Program: "/a</string>&b", Args: []string{"tray"}}))))
	var texts []string
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := tok.(xml.CharData); ok {
			texts = append(texts, string(text))
		}
	}
	if !strings.Contains(strings.Join(texts, "|"), "/a</string>&b") {
		t.Errorf("the path is not there as it is: %q", texts)
	}
}
