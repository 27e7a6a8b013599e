package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/proxies/db"
)

// dbCommands holds the commands' behaviour for tunnels to databases.
type dbCommands struct{}

func (dbCommands) addHelp() (long, example string) {
	return `Add a tunnel to a database, and say how to use it. The port is written to the
config, so the address stays the same on every start and on every machine that
uses the same config. Without --port one is derived from the cluster and the
resource.`, `  berth tunnel add db prod-pg --resource pg-prod --db-user alice --db-name app
  psql "$(berth tunnel url prod-pg)"`
}

func (dbCommands) client(_ *app, t state.Tunnel) ([]string, error) {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return nil, err
	}
	return proto.ClientCommand(ep)
}

func (d dbCommands) describe(a *app, w io.Writer, t state.Tunnel) {
	if argv, err := d.client(a, t); err == nil {
		_, _ = fmt.Fprintf(w, "  %s\n", plain.Line(shell.Quote(argv...)))
	}
	proto, _ := db.Lookup(t.Protocol)
	if formats := proto.Formats(); len(formats) > 0 {
		_, _ = fmt.Fprintf(w, "other clients: berth tunnel url %s --as %s\n", t.Name, strings.ReplaceAll(join(formats), ", ", "|"))
	}
}

func (dbCommands) printURL(a *app, t state.Tunnel, o urlOptions) error {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(connectionOf(proto, ep))
	}
	text, err := proto.Format(db.Format(o.as), ep)
	if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintln(a.out, strings.TrimRight(text, "\n"))
	return err
}

func (dbCommands) exec(ctx context.Context, a *app, t state.Tunnel, argv []string) error {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return err
	}
	if argv, err = clientArgs(proto, ep, argv); err != nil {
		return err
	}
	path, err := lookPath(argv[0])
	if err != nil {
		return err
	}
	env, err := proto.Env(ep)
	if err != nil {
		return err
	}
	env = append(without(os.Environ(), proto.ClearEnv()), env...)
	optionFile, done, err := mysqlHome(proto, ep)
	if err != nil {
		return err
	}
	defer done()
	return a.runClient(ctx, path, argv, append(env, optionFile...))
}

// connection is the JSON of "berth tunnel url".
type connection struct {
	Name     string               `json:"name"`
	Protocol string               `json:"protocol"`
	Host     string               `json:"host"`
	Port     int                  `json:"port"`
	DBUser   string               `json:"db_user"` // empty: the client's choice
	DBName   string               `json:"db_name"` // empty: the client's choice
	Formats  map[db.Format]string `json:"formats"` // what the protocol has
	Command  []string             `json:"command"` // the usual client; empty when there is none
}

func connectionOf(proto db.Protocol, ep db.Endpoint) connection {
	c := connection{
		Name: ep.TunnelName, Protocol: proto.Name, Host: ep.Host, Port: ep.Port, DBUser: ep.DBUser, DBName: ep.DBName,
		Formats: map[db.Format]string{}, Command: []string{},
	}
	for _, f := range proto.Formats() {
		if text, err := proto.Format(f, ep); err == nil { // a name may not fit into one of them
			c.Formats[f] = text
		}
	}
	if argv, err := proto.ClientCommand(ep); err == nil {
		c.Command = argv
	}
	return c
}

// endpointOf returns what a client must know to use a tunnel.
func endpointOf(t state.Tunnel) (db.Protocol, db.Endpoint, error) {
	ep := db.Endpoint{DBUser: t.DBUser, DBName: t.DBName, TunnelName: t.Name}
	proto, ok := db.Lookup(t.Protocol)
	if !ok {
		return proto, ep, unknownProtocol(t)
	}
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		return proto, ep, fmt.Errorf("address of tunnel %q: %w", t.Name, err)
	}
	ep.Host = host
	if ep.Port, err = strconv.Atoi(port); err != nil {
		return proto, ep, fmt.Errorf("address of tunnel %q: %w", t.Name, err)
	}
	return proto, ep, nil
}

// unknownProtocol says why it is not known what a tunnel's clients speak.
func unknownProtocol(t state.Tunnel) error {
	switch {
	case t.Protocol != "":
		return withHint(fmt.Errorf("berth does not know the protocol %q of tunnel %q", t.Protocol, t.Name),
			"connect your client to "+t.Address)
	case t.State == state.TunnelStopped:
		return withHint(fmt.Errorf("tunnel %q is stopped", t.Name), fmt.Sprintf("start it with %q", "berth tunnel start "+t.Name))
	case t.Problem != nil:
		err := fmt.Errorf("what tunnel %q leads to is not known yet: %s", t.Name, strings.TrimSuffix(t.Problem.Text, "."))
		if t.State == state.TunnelWaitingForLogin {
			err = fmt.Errorf("%w: %w", errLoginNeeded, err)
		}
		return withHint(err, t.Problem.Action)
	default:
		return withHint(fmt.Errorf("what tunnel %q leads to is not known yet", t.Name),
			fmt.Sprintf("wait with %q", "berth status --wait --timeout 30s "+t.Name))
	}
}

// clientArgs is the command to run: the usual client when none was named, and
// with the tunnel's arguments before those given for clients that need them.
func clientArgs(proto db.Protocol, ep db.Endpoint, argv []string) ([]string, error) {
	usual, err := proto.ClientCommand(ep)
	if len(argv) == 0 {
		if err != nil {
			return nil, usageError{withHint(err, fmt.Sprintf("name one: berth exec %s -- COMMAND", ep.TunnelName))}
		}
		return usual, nil
	}
	name := strings.TrimSuffix(filepath.Base(argv[0]), ".exe")
	if err == nil && usual[0] == name && proto.ArgsOnly {
		return slices.Concat(argv[:1], usual[1:], argv[1:]), nil
	}
	return argv, nil
}

// mysqlHome makes an option file for MySQL's clients, which take the database
// user from no variable, and returns the variable that leads them to it. done
// removes it.
func mysqlHome(proto db.Protocol, ep db.Endpoint) (env []string, done func(), err error) {
	if !slices.Contains(proto.Formats(), db.MyCnf) {
		return nil, func() {}, nil
	}
	text, err := proto.Format(db.MyCnf, ep)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "berth-exec-")
	if err != nil {
		return nil, nil, fmt.Errorf("make option file: %w", err)
	}
	done = func() { _ = os.RemoveAll(dir) } // nothing secret is in it
	if err := os.WriteFile(filepath.Join(dir, "my.cnf"), []byte(text+"\n"), 0o600); err != nil {
		done()
		return nil, nil, fmt.Errorf("make option file: %w", err)
	}
	return []string{"MYSQL_HOME=" + dir}, done, nil
}
