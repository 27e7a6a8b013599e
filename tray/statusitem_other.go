//go:build windows || (darwin && cgo)

package tray

// statusItem is nothing here: icon and tooltip say it all.
type statusItem struct{}

func (statusItem) title(string) {}
func (statusItem) mood(mood)    {}
