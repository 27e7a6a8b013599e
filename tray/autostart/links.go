package autostart

import (
	"path/filepath"
	"strings"
)

// scheme is that of the links that berth follows, and linksName names the entry.
const (
	scheme    = "berth"
	linksName = "berth-link"
)

// linkArgs are what berth is called with to follow a link, which comes last. After
// -- it is no option, whatever it looks like.
var linkArgs = []string{"link", "follow", "--"}

// linkEntry is a desktop entry for links, as the Desktop Entry Specification and the
// one for MIME types have it. The link replaces %u, as one argument.
func linkEntry(program string) []byte {
	return []byte(`[Desktop Entry]
Type=Application
Version=1.0
Name=berth
Comment=Follow berth links, after asking
Icon=berth
Exec=` + quoteExec(program) + ` ` + strings.Join(linkArgs, " ") + ` %u
Terminal=false
NoDisplay=true
StartupNotify=false
MimeType=x-scheme-handler/` + scheme + `;
`)
}

// registryValue is a value below HKCU\Software\Classes.
type registryValue struct{ key, name, text string }

// linkClass is what has Windows hand berth's links to a command. The link replaces
// %1.
func linkClass(program string) []registryValue {
	return []registryValue{
		{scheme, "", "URL:berth link"},
		{scheme, "URL Protocol", ""},
		{scheme + `\shell\open\command`, "", `"` + program + `" ` + strings.Join(linkArgs, " ") + ` "%1"`},
	}
}

// linkApp names the application that macOS has follow links.
const linkApp = "dev.berth.link"

// linkPlist is that application's Info.plist: an AppleScript applet that has no icon
// in the Dock.
func linkPlist() []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>CFBundleIdentifier</key>
	<string>` + linkApp + `</string>
	<key>CFBundleName</key>
	<string>berth</string>
	<key>CFBundlePackageType</key>
	<string>APPL</string>
	<key>CFBundleSignature</key>
	<string>aplt</string>
	<key>CFBundleExecutable</key>
	<string>applet</string>
	<key>CFBundleInfoDictionaryVersion</key>
	<string>6.0</string>
	<key>CFBundleURLTypes</key>
	<array>
		<dict>
			<key>CFBundleURLName</key>
			<string>` + linkApp + `</string>
			<key>CFBundleTypeRole</key>
			<string>Viewer</string>
			<key>CFBundleURLSchemes</key>
			<array>
				<string>` + scheme + `</string>
			</array>
		</dict>
	</array>
	<key>LSUIElement</key>
	<true/>
</dict>
</plist>
`)
}

// linkScript is the applet: macOS hands it a link as an event, not as an argument. The
// link is quoted for the shell by AppleScript, and the program here.
func linkScript(program string) []byte {
	literal := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(program)
	return []byte(`on open location theLink
	do shell script quoted form of "` + literal + `" & " ` + strings.Join(linkArgs, " ") + ` " & quoted form of theLink & " >/dev/null 2>&1 &"
end open location
`)
}

// bundleOf is the application bundle that a program is part of, whose Info.plist
// names the scheme already; empty means that it is part of none.
func bundleOf(program string) string {
	if file, err := filepath.EvalSymlinks(program); err == nil {
		program = file
	}
	app, _, inside := strings.Cut(program, ".app/Contents/MacOS/")
	if !inside {
		return ""
	}
	return app + ".app"
}
