package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"berth/agent/ports"
	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/db"
	"berth/proxies/kube/kubeconfig"
)

// checkPorts looks at every port that the config names.
func (d *doctor) checkPorts(ctx context.Context) []Finding {
	conf, err := d.config.get(ctx)
	if err != nil {
		return nil
	}
	if conf.unknown {
		return skipUnknown("port", "which ports its tunnels have")
	}
	snap, running := d.snapshot(ctx)
	var taken []state.TunnelSpec
	for _, t := range conf.cfg.Tunnels {
		if t.Port == 0 {
			continue
		}
		if running {
			i := slices.IndexFunc(snap.Tunnels, func(s state.Tunnel) bool { return s.Name == t.Name })
			if i >= 0 && snap.Tunnels[i].State == state.TunnelPortInUse {
				taken = append(taken, t)
			}
		} else if proxies.PortBusy(t.Port) {
			taken = append(taken, t)
		}
	}
	if len(taken) == 0 {
		return one("port", OK, "no other program has a port of the config's tunnels", "")
	}
	return each(ctx, taken, func(ctx context.Context, t state.TunnelSpec) []Finding {
		who := "another program, perhaps another user's"
		for _, host := range []string{"127.0.0.1", "::1"} {
			if owner := proxies.PortOwner(ctx, host, t.Port); owner != nil {
				who = owner.String()
				break
			}
		}
		return one("port", Fail, fmt.Sprintf("port %d of tunnel %s is taken by %s", t.Port, t.Name, who),
			"stop that program; berth takes the port the moment it is free")
	})
}

// checkTunnels tries every tunnel that says it is ready, as a client would.
func (d *doctor) checkTunnels(ctx context.Context) []Finding {
	snap, running := d.snapshot(ctx)
	if !running {
		return one("tunnel", Skip, "without an agent no tunnel can be tried", "")
	}
	if len(snap.Tunnels) == 0 {
		return one("tunnel", Skip, "the config has no tunnels", "berth tunnel add --help")
	}
	waiting, rest := d.forOneLogin(ctx, snap.Tunnels)
	return append(waiting, each(ctx, rest, d.checkTunnel)...)
}

// forOneLogin takes the tunnels out of a list that wait for the login of a profile
// which checkHomes has named already: they are no findings of their own.
func (d *doctor) forOneLogin(ctx context.Context, tunnels []state.Tunnel) (waiting []Finding, rest []state.Tunnel) {
	if !slices.ContainsFunc(tunnels, waits) {
		return nil, tunnels
	}
	ctx, cancel := context.WithTimeout(ctx, Limits.Step)
	defer cancel()
	homes, _ := d.homes.get(ctx) // without them every tunnel stands for itself
	named := make(map[string]bool)
	for _, h := range homes {
		for _, p := range h.profiles {
			named[p.ProxyAddr] = named[p.ProxyAddr] || len(d.checkProfile(p)) > 0
		}
	}
	var names []string
	for _, t := range tunnels {
		if waits(t) && named[t.Profile] {
			names = append(names, t.Name)
		} else {
			rest = append(rest, t)
		}
	}
	if len(names) > 0 {
		waiting = one("tunnel", Skip, "before a login "+count(len(names), "tunnel")+" cannot be tried: "+strings.Join(names, ", "), "")
	}
	return waiting, rest
}

func waits(t state.Tunnel) bool { return t.State == state.TunnelWaitingForLogin }

func (d *doctor) checkTunnel(ctx context.Context, t state.Tunnel) []Finding {
	name := "tunnel " + t.Name
	switch t.State {
	case state.TunnelReady:
		knock := knocks[t.Kind]
		if knock == nil {
			return one("tunnel", Skip, fmt.Sprintf("%s is of kind %s, which this berth does not know", name, t.Kind), "")
		}
		ctx, cancel := context.WithTimeout(ctx, Limits.Step)
		defer cancel()
		said, err := knock(d, ctx, t)
		if err != nil {
			return one("tunnel", Fail, fmt.Sprintf("%s says it is ready, but a client that connects to %s is not served: %v", name, t.Address, err),
				"berth tunnel why "+t.Name)
		}
		return one("tunnel", OK, fmt.Sprintf("%s: %s on %s %s", name, t.Resource, t.Address, said), "")
	case state.TunnelStopped:
		return one("tunnel", Skip, name+" was stopped by you", "berth tunnel start "+t.Name)
	case state.TunnelConnecting:
		return one("tunnel", Warn, name+" is connecting", "berth tunnel why "+t.Name)
	case state.TunnelWaitingForLogin:
		return one("tunnel", Warn, name+" waits for a login"+problemText(t), problemAction(t))
	case state.TunnelPortInUse, state.TunnelError:
		return one("tunnel", Fail, name+" does not work"+problemText(t), problemAction(t))
	default:
		return one("tunnel", Fail, fmt.Sprintf("%s is %s%s", name, t.State, problemText(t)), problemAction(t))
	}
}

func problemText(t state.Tunnel) string {
	if t.Problem == nil {
		return ""
	}
	return ": " + t.Problem.Text
}

func problemAction(t state.Tunnel) string {
	if t.Problem == nil || t.Problem.Action == "" {
		return "berth tunnel why " + t.Name
	}
	return t.Problem.Action
}

// knocks try a tunnel of a kind as a client would, and return what that proved.
var knocks = map[state.Kind]func(d *doctor, ctx context.Context, t state.Tunnel) (said string, err error){
	state.KindDB:   (*doctor).knockDB,
	state.KindKube: (*doctor).knockKube,
}

func (d *doctor) knockDB(ctx context.Context, t state.Tunnel) (said string, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // nothing is to be sent any more
	until, _ := ctx.Deadline()          // it has one
	proto, _ := db.Lookup(t.Protocol)
	if proto.Probes(t.DBUser) {
		if err := conn.SetDeadline(until); err != nil {
			return "", err
		}
		return d.logIn(proto, conn, t)
	}
	first, own, known := proto.Hello()
	if !known { // it is enough that the connection stays open
		until = time.Now().Add(pulseTime)
	}
	if err := conn.SetDeadline(until); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, first); err != nil {
		return "", err
	}
	_, err = io.ReadFull(conn, make([]byte, own+1))
	var wait net.Error
	switch {
	case err == nil:
		return "answers", nil
	case errors.As(err, &wait) && wait.Timeout() && !known:
		return "takes connections", nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "", errors.New("the connection is closed at once")
	case errors.As(err, &wait) && wait.Timeout():
		return "", fmt.Errorf("no answer within %v", Limits.Step)
	default:
		return "", err
	}
}

// logIn goes on to a login with the tunnel's own user and database.
func (d *doctor) logIn(proto db.Protocol, conn net.Conn, t state.Tunnel) (said string, err error) {
	switch err := proto.Probe(conn, t.DBUser, t.DBName); {
	case err == nil && t.DBUser != "":
		return "answers, and lets " + t.DBUser + " in", nil
	case err == nil:
		return "answers", nil
	default:
		var wait net.Error
		if errors.As(err, &wait) && wait.Timeout() {
			return "", fmt.Errorf("no answer within %v", Limits.Step)
		}
		return "", berthsOwn(err, t.Name)
	}
}

// berthsOwn returns the words of the tunnel itself where it is berth that refuses the
// client, in the database's protocol; else err.
func berthsOwn(err error, tunnel string) error {
	refused, ok := errors.AsType[*db.RefusedError](err)
	if !ok {
		return err
	}
	if _, own, found := strings.Cut(refused.Words, "tunnel "+tunnel+": "); found {
		return errors.New(own)
	}
	return err
}

// knockKube asks for the version, with berth's own kubeconfig.
func (d *doctor) knockKube(ctx context.Context, t state.Tunnel) (string, error) {
	data, err := os.ReadFile(kubeconfig.Path(d.Paths.StateDir))
	if err != nil {
		return "", err
	}
	contexts, err := kubeconfig.Contexts(data)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(contexts, func(c kubeconfig.Context) bool { return c.Name == t.Name })
	if i < 0 {
		return "", errors.New("berth's kubeconfig has no context for it")
	}
	c := contexts[i]
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CA)
	cert, err := tls.X509KeyPair(c.ClientCert, c.ClientKey)
	if err != nil {
		return "", fmt.Errorf("the client cert of berth's kubeconfig: %w", err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: c.ServerName, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Server+"/version", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode >= http.StatusInternalServerError {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, maxText)) // what there is
		return "", fmt.Errorf("the answer is %q: %s", resp.Status, said)
	}
	return "answers", nil
}

// checkGuard tells which tunnels other users of this computer may use.
func (d *doctor) checkGuard(ctx context.Context) []Finding {
	snap, running := d.snapshot(ctx)
	if !running {
		return one("guard", Skip, "without an agent no tunnel is open to anybody", "")
	}
	var found []Finding
	for _, t := range snap.Tunnels {
		switch {
		case t.Kind.Info().ShowsCert:
		case t.Guard == state.GuardOff:
			found = append(found, one("guard", Warn, fmt.Sprintf("every user of this computer may use tunnel %s: the config says guard: off", t.Name),
				"take guard: off out of the config")...)
		case t.Guard == state.GuardNone:
			found = append(found, one("guard", Warn, fmt.Sprintf("every user of this computer may use tunnel %s: the system does not say who a client is", t.Name),
				"on a computer with several users, log out of Teleport when you leave it")...)
		}
	}
	if found == nil {
		return one("guard", OK, "only your own programs may use the tunnels", "")
	}
	return found
}

// checkKubeconfig looks at berth's own kubeconfig.
func (d *doctor) checkKubeconfig(ctx context.Context) []Finding {
	conf, err := d.config.get(ctx)
	if err != nil {
		return nil
	}
	if conf.unknown {
		return skipUnknown("kubeconfig", "whether there are tunnels to Kubernetes")
	}
	var wanted []string
	for _, t := range ports.KubeTunnels(conf.cfg) {
		wanted = append(wanted, t.Name)
	}
	if len(wanted) == 0 {
		return one("kubeconfig", Skip, "the config has no tunnels to Kubernetes", "")
	}
	path := kubeconfig.Path(d.Paths.StateDir)
	data, err := os.ReadFile(path)
	if err == nil {
		var contexts []kubeconfig.Context
		contexts, err = kubeconfig.Contexts(data)
		for _, name := range wanted {
			if err == nil && !slices.ContainsFunc(contexts, func(c kubeconfig.Context) bool { return c.Name == name }) {
				err = fmt.Errorf("there is no context for tunnel %s", name)
			}
		}
	}
	if err != nil {
		return one("kubeconfig", Fail, fmt.Sprintf("berth's kubeconfig %s: %v", path, err), "the agent rewrites it: berth agent restart")
	}
	return one("kubeconfig", OK, path+" has a context for every tunnel to Kubernetes", "")
}
