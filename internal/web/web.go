// Package web holds what berth shows in a browser: the window, and the player of
// recordings as one page. The sources are in src; "make web" builds dist from
// them, and "make check" fails when the two differ.
package web

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed dist
var dist embed.FS

// Window returns the files of the window: index.html, app.js and app.css.
func Window() fs.FS {
	sub, err := fs.Sub(dist, "dist/window")
	if err != nil {
		panic(err) // "dist/window" is a valid path
	}
	return sub
}

// PlayerPolicy returns the content security policy that the player's page has.
func PlayerPolicy() string {
	_, rest, found := strings.Cut(string(Player()), `http-equiv="Content-Security-Policy" content="`)
	policy, _, ended := strings.Cut(rest, `"`)
	if !found || !ended {
		panic("the player's page has no policy") // its build puts one in
	}
	return policy
}

// Player returns the page that plays a recording. The recording's data is put
// into it by internal/replay.
func Player() []byte {
	page, err := fs.ReadFile(dist, "dist/player/player.html")
	if err != nil {
		panic(err) // it is embedded
	}
	return page
}
