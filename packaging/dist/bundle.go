package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
)

// bundleID is what macOS knows the application by: permissions that a user has
// given are kept under it, so that it never changes.
const bundleID = "dev.berth.app"

// bundleTop is the folder of the application in an archive.
const bundleTop = "berth.app/Contents/"

// infoPlist describes the application: the tray, without an icon in the Dock, to
// which the system hands berth:// links. BERTH_APP has a program without arguments be
// the tray.
func infoPlist(version string) []byte {
	var v bytes.Buffer
	_ = xml.EscapeText(&v, []byte(version)) // a Buffer takes everything
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>CFBundleIdentifier</key>
	<string>%[1]s</string>
	<key>CFBundleName</key>
	<string>berth</string>
	<key>CFBundleExecutable</key>
	<string>berth</string>
	<key>CFBundleIconFile</key>
	<string>berth</string>
	<key>CFBundlePackageType</key>
	<string>APPL</string>
	<key>CFBundleInfoDictionaryVersion</key>
	<string>6.0</string>
	<key>CFBundleShortVersionString</key>
	<string>%[2]s</string>
	<key>CFBundleVersion</key>
	<string>%[2]s</string>
	<key>CFBundleURLTypes</key>
	<array>
		<dict>
			<key>CFBundleURLName</key>
			<string>%[1]s</string>
			<key>CFBundleTypeRole</key>
			<string>Viewer</string>
			<key>CFBundleURLSchemes</key>
			<array>
				<string>berth</string>
			</array>
		</dict>
	</array>
	<key>LSEnvironment</key>
	<dict>
		<key>BERTH_APP</key>
		<string>tray</string>
	</dict>
	<key>LSMinimumSystemVersion</key>
	<string>12.0</string>
	<key>LSUIElement</key>
	<true/>
	<key>NSHighResolutionCapable</key>
	<true/>
</dict>
</plist>
`, bundleID, v.String())
}

// bundle is the application as entries of an archive, with a link to its program
// where the other archives have theirs.
func (r *release) bundle(t target, program string) ([]entry, error) {
	plist := filepath.Join(r.work, t.os+"-"+t.arch, "Info.plist")
	if err := os.WriteFile(plist, infoPlist(r.version.semver()), 0o644); err != nil { //nolint:gosec // G306: for every user to read
		return nil, err
	}
	return []entry{
		{name: "berth", link: bundleTop + "MacOS/berth"},
		{name: bundleTop + "MacOS/berth", source: program, program: true},
		{name: bundleTop + "Info.plist", source: plist},
		{name: bundleTop + "Resources/berth.icns", source: r.common("icons", "berth.icns")},
	}, nil
}
