package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/godbus/dbus/v5"

	"berth/internal/busaddr"
)

const (
	busName     = "org.freedesktop.DBus"
	watcherName = "org.kde.StatusNotifierWatcher" // who panels with a tray listen as
	noticesName = "org.freedesktop.Notifications"
	noticesPath = dbus.ObjectPath("/org/freedesktop/Notifications")
)

// Desktop asks the session's bus who shows icons and notifications. It launches
// neither a bus nor a service.
func Desktop(ctx context.Context) []Finding {
	address, err := busaddr.Session()
	if err != nil {
		return one("desktop", Skip, "there is no desktop here: no icon and no notifications", `"berth status --watch" shows what they would`)
	}
	ctx, cancel := context.WithTimeout(ctx, Limits.Step)
	defer cancel()
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return one("desktop", Warn, fmt.Sprintf("the desktop's message bus does not answer: %v", err), "log in to the desktop again")
	}
	defer func() { _ = conn.Close() }() // nothing is to be sent any more
	return append(trayHost(ctx, conn), notices(ctx, conn)...)
}

// owned reports whether anybody has a name on the bus.
func owned(ctx context.Context, conn *dbus.Conn, name string) (there bool, err error) {
	err = conn.BusObject().CallWithContext(ctx, busName+".NameHasOwner", 0, name).Store(&there)
	return there, err
}

func trayHost(ctx context.Context, conn *dbus.Conn) []Finding {
	switch there, err := owned(ctx, conn, watcherName); {
	case err != nil:
		return one("tray_host", Warn, fmt.Sprintf("the desktop's message bus does not answer: %v", err), "log in to the desktop again")
	case !there:
		return one("tray_host", Warn, "no panel here shows icons", "on GNOME, install and switch on the AppIndicator extension; all else works without")
	default:
		return one("tray_host", OK, "a panel shows the icon", "")
	}
}

func notices(ctx context.Context, conn *dbus.Conn) []Finding {
	there, err := owned(ctx, conn, noticesName)
	if err == nil && !there {
		var starts []string
		err = conn.BusObject().CallWithContext(ctx, busName+".ListActivatableNames", 0).Store(&starts)
		if slices.Contains(starts, noticesName) {
			return one("notifications", OK, "a notification service starts when one is needed", "")
		}
	}
	var can []string
	var name, vendor, version, spec string
	if there {
		service := conn.Object(noticesName, noticesPath)
		err = service.CallWithContext(ctx, noticesName+".GetCapabilities", dbus.FlagNoAutoStart).Store(&can)
		if err == nil {
			err = service.CallWithContext(ctx, noticesName+".GetServerInformation", dbus.FlagNoAutoStart).Store(&name, &vendor, &version, &spec)
		}
	}
	switch {
	case err != nil:
		return one("notifications", Warn, fmt.Sprintf("the notification service does not answer: %v", err), "log in to the desktop again")
	case !there:
		return one("notifications", Warn, "nothing here shows notifications", "install a notification service, such as dunst or mako")
	case !slices.Contains(can, "actions"):
		return one("notifications", Warn, fmt.Sprintf("notifications are shown by %s, without buttons", name), "approve and assume from the tray or the command line")
	default:
		return one("notifications", OK, fmt.Sprintf("notifications are shown by %s, with buttons", name), "")
	}
}
