package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are those of the short commands, by path; a longer command has its
// own beside its text.
var examples = map[string]string{
	"berth":                 "berth setup\nberth status\nberth help topics",
	"berth down":            "berth down prod-pg",
	"berth licenses":        "berth licenses | less",
	"berth logs":            "berth logs\nberth logs --follow",
	"berth ls":              "berth ls\nberth ls --json",
	"berth show":            "berth show prod-pg",
	"berth tunnel show":     "berth tunnel show prod-pg\nberth tunnel show --json prod-pg | jq -r .address",
	"berth up":              "berth up prod-pg",
	"berth agent":           "berth agent install\nberth agent status",
	"berth agent install":   "berth agent install\nberth agent status",
	"berth agent logs":      "berth agent logs\nberth agent logs --follow",
	"berth agent restart":   "berth agent restart",
	"berth agent run":       "berth agent run --log-level debug",
	"berth agent start":     "berth agent start",
	"berth agent status":    "berth agent status\nberth agent status --json",
	"berth agent stop":      "berth agent stop",
	"berth agent uninstall": "berth agent uninstall\nberth agent uninstall --purge",
	"berth ca":              "berth ca show\nberth ca trust --print",
	"berth client":          "berth client add pgservice prod-pg\nberth client ls",
	"berth client ls":       "berth client ls",
	"berth config":          "berth config edit\nberth config check",
	"berth config check":    "berth config check\nberth config check team.yaml",
	"berth config edit":     "EDITOR=nano berth config edit",
	"berth config path":     "berth config path",
	"berth selftest":        "berth selftest\nberth selftest --json > selftest.json",
	"berth doctor":          "berth doctor\nberth doctor --fix\nberth doctor --bundle berth.tar.gz",
	"berth kube":            "export KUBECONFIG=\"$(berth kube config --path)\"\nkubectl --context berth-prod-k8s get pods",
	"berth link":            "berth link tunnel prod-pg\nberth link add prod-pg",
	"berth link add":        "berth link add prod-pg",
	"berth link assume":     "berth link assume 7c1f0c2a --tunnel prod-pg",
	"berth link follow":     "berth link follow -- berth://tunnel/prod-pg",
	"berth link login":      "berth link login teleport.example.com",
	"berth link open":       "berth link open",
	"berth link recording":  "berth link recording 5e1f0c2a --from 2m10s",
	"berth link request":    "berth link request 7c1f0c2a",
	"berth link tunnel":     "berth link tunnel prod-pg",
	"berth logout":          "berth logout\nberth logout teleport.example.com",
	"berth recording":       "berth recording ls\nberth recording play 5e1f0c2a",
	"berth request":         "berth request create --role dba --reason 'incident 42' --wait\nberth request assume 7c1f",
	"berth request ls":      "berth request ls\nberth request ls --json",
	"berth request show":    "berth request show 7c1f",
	"berth snooze":          "berth snooze\nberth snooze teleport.example.com",
	"berth telemetry":       "berth telemetry explain\nberth telemetry show",
	"berth telemetry reset": "berth telemetry reset\nberth telemetry reset --key",
	"berth telemetry show":  "berth telemetry show\nberth telemetry show --json | jq .days",
	"berth tray":            "berth tray\nberth tray install",
	"berth tray install":    "berth tray install",
	"berth tray uninstall":  "berth tray uninstall",
	"berth tunnel":          "berth tunnel add db prod-pg --resource pg-prod --db-user alice\nberth tunnel ls",
	"berth tunnel ls":       "berth tunnel ls\nberth tunnel ls --json",
	"berth tunnel restart":  "berth tunnel restart prod-pg",
	"berth tunnel rm":       "berth tunnel rm prod-pg",
	"berth tunnel start":    "berth tunnel start prod-pg",
	"berth tunnel stop":     "berth tunnel stop prod-pg",
	"berth tunnel why":      "berth tunnel why prod-pg",
	"berth version":         "berth version\nberth version --json",
}

// addExample gives a command its example, if it has none of its own.
func addExample(cmd *cobra.Command) {
	if text := examples[cmd.CommandPath()]; text != "" {
		cmd.Example = "  " + strings.ReplaceAll(text, "\n", "\n  ")
	}
}
