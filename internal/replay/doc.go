// Package replay plays what a recorded session printed: it turns events into
// screens, finds a moment, a text or a mark, and writes a recording in the forms
// that others read. It knows neither Teleport nor a terminal nor a network.
//
// What a session printed is of others. A screen is made by a terminal emulator
// (github.com/charmbracelet/x/vt), and what leaves it is cells: characters that
// package plain lets pass, and styles. So no title, clipboard, link, answer or
// mode of the recorded session reaches whoever watches.
package replay
