package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/when"
)

// whyJSON is the JSON of "berth tunnel why".
type whyJSON struct {
	Tunnel state.Tunnel  `json:"tunnel"`
	Events []state.Event `json:"events"`
}

func (a *app) tunnelWhyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why NAME [flags]",
		Short: "Show a tunnel's state and its recent events",
		Long: `Show how a tunnel is and what to do about it, then what happened to it since the
agent started, the newest last: who waited, who was refused and why, when its
cert was renewed. The agent remembers the last 50 events of each tunnel;
connections that simply worked share a line.`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(c *client.Client) error {
				events, err := c.TunnelHistory(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				t, err := find(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(whyJSON{Tunnel: t, Events: events})
				}
				return a.printWhy(t, events, time.Now())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnel and its events as JSON")
	return cmd
}

// printWhy prints the present first, then the past.
func (a *app) printWhy(t state.Tunnel, events []state.Event, now time.Time) error {
	fmt.Fprintf(a.out, "%s · %s\n", plain.Line(t.Name), a.paint(stateColor(t.State), words(t.State)))
	if t.Problem != nil {
		fmt.Fprintln(a.out, a.problemLines("  ", *t.Problem))
	}
	if t.Waiting > 0 {
		fmt.Fprintf(a.out, "  %d of %d connections wait\n", t.Waiting, t.Connections)
	}
	fmt.Fprintln(a.out)
	if len(events) == 0 {
		_, err := fmt.Fprintln(a.out, "Nothing has happened since the agent started.")
		return err
	}
	for _, e := range events {
		fmt.Fprintln(a.out, a.eventLine(e, now))
	}
	return nil
}

// eventLine is the time of an event and what it was, broken at words below itself, or
// below the time where the terminal leaves too little beside it.
func (a *app) eventLine(e state.Event, now time.Time) string {
	at, line := when.ClockSeconds(e.At, now), plain.Line(e.Text)
	switch {
	case e.Until == nil:
	case e.Kind == state.EventCert:
		line += ", valid until " + when.ClockSeconds(*e.Until, now)
	default:
		line += " (the last at " + when.ClockSeconds(*e.Until, now) + ")"
	}
	columns, beside := a.width(), plain.Width(at)+tableGap
	switch {
	case columns == 0 || beside+plain.Width(line) <= columns:
		return at + strings.Repeat(" ", tableGap) + line
	case columns < beside+2*shortCell:
		return at + "\n" + strings.Repeat(" ", tableGap) + hanging(line, tableGap, tableGap, columns)
	default:
		return at + strings.Repeat(" ", tableGap) + hanging(line, beside, beside, columns)
	}
}
