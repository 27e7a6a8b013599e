package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"berth/agent/state"
	"berth/internal/clientenv"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/proxies/db"
	"berth/proxies/kube/kubeconfig"
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
	proto, known := db.Lookup(t.Protocol)
	if known && t.DBUser == "" && !proto.NeedsDBUser && proto.DefaultDBUser == "" {
		_, _ = fmt.Fprintf(w, "  The client names the database user, as with -U or -u. For good: berth tunnel set %s --db-user USER\n", t.Name)
	}
	if formats := proto.Formats(); len(formats) > 0 {
		_, _ = fmt.Fprintf(w, "other clients: berth tunnel url %s --as %s\n", t.Name, strings.ReplaceAll(join(formats), ", ", "|"))
	}
}

func (dbCommands) forms(_ *app, t state.Tunnel) (map[db.Format]string, error) {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return nil, err
	}
	return connectionOf(proto, ep).Formats, nil
}

func (dbCommands) printURL(a *app, t state.Tunnel, o urlOptions) error {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return err
	}
	if ep.CA = o.ca; o.tls && !proto.LedToTLS() {
		return usageError{fmt.Errorf("clients of %s cannot be led to speak TLS with a tunnel", proto.Title)}
	}
	if o.json {
		return a.printJSON(connectionOf(proto, ep))
	}
	text, err := proto.Format(db.Format(o.as), ep)
	if err != nil {
		return usageError{err}
	}
	if db.Format(o.as) == db.Env {
		text = unsetLines(proto.Overruling(os.Environ())) + text
	}
	if f := db.Format(o.as); o.tls && !proto.NamesCA(f) {
		_, _ = fmt.Fprintf(a.err, "note: %q cannot name the CA: give the client the file %s, or see \"berth ca trust --print\"\n", f, plain.Line(o.ca))
	}
	_, err = fmt.Fprintln(a.out, strings.TrimRight(text, "\n"))
	return err
}

// unsetLines are lines for a shell that remove variables.
func unsetLines(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "unset " + strings.Join(names, " ") + "\n"
}

func (dbCommands) exec(ctx context.Context, a *app, t state.Tunnel, argv []string, quiet bool) error {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		if argv, err = proto.UsualClient(ep); err != nil {
			return usageError{withHint(err, fmt.Sprintf("name one: berth exec %s -- COMMAND", t.Name))}
		}
	}
	path, err := lookPath(argv[0])
	if err != nil {
		return err
	}
	if kubeconfig.IsClient(argv[0]) {
		return wrongClient(argv[0], "Kubernetes", t, proto.Title)
	}
	dir, err := os.MkdirTemp("", "berth-exec-")
	if err != nil {
		return fmt.Errorf("make a folder for the client's files: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing secret is in it
	cmd, err := proto.Exec(ep, path, argv, os.Environ(), dir)
	if lead, ok := errors.AsType[*db.LeadError](err); ok {
		return usageError{withHint(lead, fmt.Sprintf("connect it yourself: tunnel %s is at %s; see \"berth tunnel url %[1]s\"", t.Name, t.Address))}
	}
	if err != nil {
		return withHint(err, fmt.Sprintf("tunnel %s is at %s", t.Name, t.Address))
	}
	if !cmd.Known {
		if cmd.Env, err = leadByName(proto, t.Name, dir, cmd.Env); err != nil {
			return err
		}
		if !quiet {
			a.warnUnknown(argv[0], t, "by a full path or with an emptied environment")
		}
	}
	return a.runClient(ctx, path, cmd.Argv, cmd.Env)
}

// leadByName makes a folder of scripts below dir that stand for the clients of a
// protocol which obey no variable, and returns env with the folder first on PATH:
// a shell starts them instead, and they run the client by "berth exec".
func leadByName(proto db.Protocol, tunnel, dir string, env []string) ([]string, error) {
	if runtime.GOOS == "windows" { // it runs no scripts by their names
		return env, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	names := filepath.Join(dir, "bin")
	if err := os.Mkdir(names, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for the clients: %w", err)
	}
	for _, name := range proto.ProgramsByArguments() {
		path, err := exec.LookPath(name)
		if err != nil || !filepath.IsAbs(path) {
			continue // not installed
		}
		// A client that is a script itself may look for the next one of its name.
		script := "#!/bin/sh\nPATH=${PATH#" + shell.Quote(names+":") + "}\nexec " + shell.Quote(self, "exec", "--quiet", tunnel, "--", path) + ` "$@"` + "\n"
		if err := os.WriteFile(filepath.Join(names, name), []byte(script), 0o700); err != nil { //nolint:gosec // G306: it is to be run
			return nil, fmt.Errorf("make a script for %q: %w", name, err)
		}
	}
	path := names
	if old := os.Getenv("PATH"); old != "" {
		path += string(filepath.ListSeparator) + old
	}
	return clientenv.Make(env, nil, []string{"PATH=" + path}), nil
}

// connection is the JSON of "berth tunnel url".
type connection struct {
	Name     string               `json:"name"`
	Protocol string               `json:"protocol"`
	Host     string               `json:"host"`
	Port     int                  `json:"port"`
	DBUser   string               `json:"db_user"` // empty: the client's choice
	DBName   string               `json:"db_name"` // empty: the client's choice
	CA       string               `json:"ca"`      // the local CA's file; empty: without TLS
	Formats  map[db.Format]string `json:"formats"` // what the protocol has
	Command  []string             `json:"command"` // the usual client; empty when there is none
}

func connectionOf(proto db.Protocol, ep db.Endpoint) connection {
	c := connection{
		Name: ep.TunnelName, Protocol: proto.Name, Host: ep.Host, Port: ep.Port, DBUser: ep.DBUser, DBName: ep.DBName, CA: ep.CA,
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
		return stopped(t)
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
