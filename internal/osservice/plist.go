package osservice

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
)

// plistOf returns the launchd agent of cfg. It is started at login and again
// when it fails, but not when it was stopped. Output goes to a file of
// its own: the program keeps its log itself, so only a crash is seen there.
func plistOf(cfg Config) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by "berth agent install", which replaces it. -->
<plist version="1.0">
<dict>
`)
	key := func(name string) { fmt.Fprintf(&b, "\t<key>%s</key>\n", name) }
	text := func(indent, s string) { fmt.Fprintf(&b, "%s<string>%s</string>\n", indent, plistText(s)) }
	key("Label")
	text("\t", label(cfg.Name))
	key("ProgramArguments")
	b.WriteString("\t<array>\n")
	for _, w := range append([]string{cfg.Program}, cfg.Args...) {
		text("\t\t", w)
	}
	b.WriteString("\t</array>\n")
	if len(cfg.Env) > 0 {
		key("EnvironmentVariables")
		b.WriteString("\t<dict>\n")
		for _, e := range cfg.Env {
			fmt.Fprintf(&b, "\t\t<key>%s</key>\n", plistText(e.Name))
			text("\t\t", e.Value)
		}
		b.WriteString("\t</dict>\n")
	}
	b.WriteString(`	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ThrottleInterval</key>
	<integer>2</integer>
	<key>ExitTimeOut</key>
	<integer>20</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>Umask</key>
	<integer>63</integer>
	<key>HardResourceLimits</key>
	<dict>
		<key>Core</key>
		<integer>0</integer>
	</dict>
`)
	for _, name := range []string{"StandardOutPath", "StandardErrorPath"} {
		key(name)
		text("\t", filepath.ToSlash(filepath.Join(cfg.LogDir, "agent.output.log")))
	}
	b.WriteString("</dict>\n</plist>\n")
	return b.String()
}

// label is the name launchd knows a service by, in reverse DNS as is the
// custom there.
func label(name string) string { return "dev.berth.agent" + strings.TrimPrefix(name, "berth") }

// plistText escapes for XML. Braces are escaped since the text passes through
// a template engine afterwards.
func plistText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return strings.NewReplacer("{", "&#123;", "}", "&#125;").Replace(b.String())
}

// plistProgram finds in a plist what it starts.
func plistProgram(plist []byte) string {
	d := xml.NewDecoder(strings.NewReader(string(plist)))
	d.Strict = false
	atKey, inArgs := "", false
	for {
		tok, err := d.Token()
		if err != nil {
			return ""
		}
		start, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		switch {
		case start.Name.Local == "key":
			if d.DecodeElement(&atKey, &start) != nil {
				return ""
			}
		case start.Name.Local == "array" && atKey == "ProgramArguments":
			inArgs = true
		case start.Name.Local == "string" && inArgs:
			var program string
			if d.DecodeElement(&program, &start) != nil {
				return ""
			}
			return program
		}
	}
}
