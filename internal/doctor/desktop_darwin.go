package doctor

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Desktop asks launchd whether this is a graphical session, which an ssh login
// is not. Menu bar and notifications are part of the system.
func Desktop(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, Limits.Step)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/bin/launchctl", "managername").Output()
	if err != nil {
		return one("desktop", Warn, fmt.Sprintf("the kind of this session is not known: launchctl: %v", err), "")
	}
	if kind := strings.TrimSpace(string(out)); kind != "Aqua" {
		return one("desktop", Skip, fmt.Sprintf("this session (%s) has no desktop: no icon and no notifications", kind), `"berth status --watch" shows what they would`)
	}
	return append(one("tray_host", OK, "the menu bar shows the icon", ""), one("notifications", OK, "notifications are part of the system", "")...)
}
