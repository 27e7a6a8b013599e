//go:build !linux

package doctor

import "context"

// checkDesktop has nothing to ask: these systems always show icons and
// notifications, unless their user has switched them off.
func (d *doctor) checkDesktop(context.Context) []Finding {
	return one("desktop", OK, "icon and notifications are part of the system", "")
}
