package main

import (
	"context"
	"fmt"
	"io"

	"berth/agent/state"
	"berth/proxies/db"
)

// kindCommands holds the commands' behaviour for tunnels of one kind. A new kind
// is one more file with an implementation, and a line in kinds.
type kindCommands interface {
	// addHelp is the help of "berth tunnel add", and an example.
	addHelp() (long, example string)
	// describe says how a new tunnel is used.
	describe(a *app, w io.Writer, t state.Tunnel)
	// client returns the command line of the usual client.
	client(a *app, t state.Tunnel) ([]string, error)
	// forms are the ways to write a tunnel's address, by the names of db.AllFormats.
	forms(a *app, t state.Tunnel) (map[db.Format]string, error)
	// exec runs a client so that it leads to the tunnel: argv, or the usual one.
	// Unless quiet, a program that berth does not know gets a warning.
	exec(ctx context.Context, a *app, t state.Tunnel, argv []string, quiet bool) error
	// printURL prints how a client connects.
	printURL(a *app, t state.Tunnel, o urlOptions) error
}

var kinds = map[state.Kind]kindCommands{
	state.KindDB:   dbCommands{},
	state.KindKube: kubeCommands{},
}

// commandsOf fails for a kind that only a newer agent knows.
func commandsOf(t state.Tunnel) (kindCommands, error) {
	k := kinds[t.Kind]
	if k == nil {
		return nil, withHint(fmt.Errorf("berth does not know the kind %q of tunnel %q", t.Kind, t.Name),
			"the running agent is newer than this program: start the one that belongs to it")
	}
	return k, nil
}
