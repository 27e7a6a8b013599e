//go:build !windows && !darwin

package notify

import "berth/internal/busaddr"

const remedy = "start a notification service (your desktop's own, or one such as dunst, mako or xfce4-notifyd); " +
	`until then look at berth's menu or "berth status"`

func newBackend(cfg Config) backend { return newBus(cfg, busaddr.Session, newPlainer(cfg)) }
