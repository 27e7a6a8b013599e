package autostart

import (
	"bytes"
	"encoding/xml"
)

// launchLabel names the LaunchAgent.
const launchLabel = "dev.berth.tray"

// launchAgent is an entry as launchd reads it: started in a graphical session,
// and again only after a crash.
func launchAgent(e Entry) []byte {
	var args bytes.Buffer
	for _, a := range append([]string{e.Program}, e.Args...) {
		args.WriteString("\t\t<string>")
		_ = xml.EscapeText(&args, []byte(a)) // a Buffer takes everything
		args.WriteString("</string>\n")
	}
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>` + launchLabel + `</string>
	<key>ProgramArguments</key>
	<array>
` + args.String() + `	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>LimitLoadToSessionType</key>
	<string>Aqua</string>
	<key>ProcessType</key>
	<string>Interactive</string>
</dict>
</plist>
`)
}
