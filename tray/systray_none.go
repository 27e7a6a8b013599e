//go:build darwin && !cgo

package tray

import (
	"context"
	"errors"
)

// runTray says that this build has no tray: macOS draws it through cgo.
func runTray(context.Context, Mood, func(context.Context, *menu) error) error {
	return errors.New("this build of berth has no tray: on macOS it needs cgo, so build berth on a Mac")
}
