// Package web holds what berth shows in a browser: the window, and the player of
// recordings as one page. The sources are in src; "make web" builds dist from
// them, and "make check" fails when the two differ.
package web

import (
	"embed"
	"io/fs"
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

// Player returns the page that plays a recording. The recording's data is put
// into it by internal/replay.
func Player() []byte {
	page, err := fs.ReadFile(dist, "dist/player/player.html")
	if err != nil {
		panic(err) // it is embedded
	}
	return page
}
