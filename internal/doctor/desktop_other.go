//go:build !linux && !windows && !darwin

package doctor

import "context"

// Desktop knows nothing of other systems.
func Desktop(context.Context) []Finding {
	return one("desktop", Skip, "berth does not know how this system shows icons and notifications", "")
}
