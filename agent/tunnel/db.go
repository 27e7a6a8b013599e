package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/proxies"
	"berth/proxies/db"
	"berth/proxies/route"
)

// dbKind is tunnels to databases.
type dbKind struct{}

func (dbKind) carrier(s *Set, t *tunnel) carrier {
	return proxies.New(proxies.Config{
		Name:     t.spec.Name,
		Port:     t.spec.Port,
		Sockets:  s.cfg.Sockets,
		Limits:   s.cfg.Limits,
		Source:   t.source,
		Hold:     t.spec.HoldDuration(),
		Again:    t.again,
		Grace:    s.cfg.Grace,
		Logger:   s.cfg.Logger,
		OnChange: t.onChange,
		OnEvent:  t.observe,
		Refuse:   t.refuse,
		Guard:    s.watchman.of(t.spec),
		Front: func(client *net.TCPConn, said []byte) proxies.Front {
			return db.NewFront(client, said, db.FrontConfig{
				Protocol: t.protocol,
				Cert:     func() (*tls.Certificate, error) { return s.cfg.Kube.ServerCert(s.ctx) },
			})
		},
		Listen:  t.listen,
		Recycle: t.recycle,
		Renewed: t.renewed,
	})
}

func (dbKind) target(spec state.TunnelSpec, _ string) tsh.Target {
	return tsh.Database{Name: spec.Resource, User: spec.DBUser, DBName: spec.DBName}
}

func (dbKind) viaChild(_ *tunnel, c *child, until time.Time) *credential {
	dial := func(ctx context.Context) (net.Conn, error) { return c.proc.Dial(ctx) }
	return &credential{dial: proxies.NewPace().Paced(c, dial), identity: c.identity(), validUntil: until, starting: c.proc.Starting}
}

func (dbKind) try(ctx context.Context, cred *credential) (net.Conn, error) { return cred.dial(ctx) }

func (dbKind) find(ctx context.Context, r *resolver, spec state.TunnelSpec, f sessions.Session) (way, error) {
	if f.Cluster == nil {
		return way{needsTSH: hardwareKey}, nil
	}
	database, err := f.Cluster.Database(ctx, spec.Cluster, spec.Resource)
	if _, unknown := errors.AsType[*cluster.UnknownDatabaseError](err); unknown {
		err = r.asGranted(ctx, spec.Name, f, err, func(c *cluster.Cluster) error {
			database, err = c.Database(ctx, spec.Cluster, spec.Resource)
			return err
		})
	}
	if err != nil {
		return way{}, err
	}
	w := way{protocol: database.Protocol, carries: database.Protocol}
	if len(r.memory.Grants(spec.Name)) == 0 { // with roles of its own a tunnel may be others
		w.dbUsers = f.Profile.Session.Identity.DBUsers
	}
	proto, known := db.Lookup(database.Protocol)
	to := cluster.DBRoute{
		Cluster: spec.Cluster, Service: spec.Resource, Protocol: database.Protocol, User: cmp.Or(spec.DBUser, proto.DefaultDBUser), Database: spec.DBName,
	}
	w.mint = func(ctx context.Context, requests string) (*cluster.Cert, error) {
		to.Requests = requests
		return f.Cluster.DBCert(ctx, to)
	}
	mfa := false
	switch why := profileNeedsTSH(f.Profile); {
	case !known:
		w.needsTSH = fmt.Sprintf("protocol %q is not known to berth", database.Protocol)
	case why != "":
		w.needsTSH = why
	default:
		asks := to
		asks.Requests = r.grants(spec.Name)
		if mfa, err = f.Cluster.MFARequired(ctx, asks); err != nil {
			return w, err
		}
		if !proto.Native {
			w.needsTSH = database.Protocol + " needs more than a byte pipe"
		}
	}
	if mfa {
		if err := w.meetMFA(ctx, f, dbCodes(f, proto, to)); err != nil {
			return w, err
		}
		if !proto.Native && w.codes != nil {
			return w, &noFactorError{fmt.Sprintf("%s is carried by tsh, which berth cannot give one-time codes", database.Protocol)}
		}
	}
	if !proto.TakesDBName(spec.DBName) {
		return w, &dbNameError{protocol: proto.Title, name: spec.DBName, place: r.config().Place(spec.Name, "db_name")}
	}
	if proto.NeedsDBUser && to.User == "" {
		missing := &missingDBUserError{protocol: database.Protocol, allowed: f.Profile.Session.Identity.DBUsers}
		w.mint = func(context.Context, string) (*cluster.Cert, error) { return nil, missing }
	}
	w.dialled = func(ctx context.Context, t *tunnel, cert *cluster.Cert, set config.ProxyTrust) (*credential, error) {
		return dialDB(ctx, r, t, f, proto, database.Version, cert, set)
	}
	return w, nil
}

// dbCodes are the codes for certs of a database. One that takes the database
// user from the client's own words lets one cert, and so one code, serve all its
// tunnels.
func dbCodes(f sessions.Session, proto db.Protocol, to cluster.DBRoute) *codes {
	if !proto.NeedsDBUser {
		to.User, to.Database = "", ""
	}
	with := func(requests string) cluster.DBRoute {
		to := to
		to.Requests = requests
		return to
	}
	return &codes{
		verified: func(requests string) (*cluster.Cert, error) { return f.Cluster.Verified(with(requests)) },
		verify: func(ctx context.Context, requests, code string) error {
			return f.Cluster.Verify(ctx, with(requests), code)
		},
	}
}

// dialDB makes of a cert the way to dial a database. Of some protocols the
// cluster knows the server's version.
func dialDB(
	ctx context.Context, r *resolver, t *tunnel, f sessions.Session, proto db.Protocol, version string, cert *cluster.Cert,
	set config.ProxyTrust,
) (*credential, error) {
	upgrade := f.Cluster.ConnUpgradeRequired()
	var clusterCAs *x509.CertPool
	var err error
	if upgrade {
		// Inside a connection upgrade the proxy answers with a cert of the
		// root cluster's CA instead of its web cert.
		if clusterCAs, err = f.Cluster.ClusterCAs(ctx, f.Cluster.Root()); err != nil {
			return nil, err
		}
	} else {
		took, err := r.trust.check(ctx, f.Profile.ProxyAddr, set)
		if err != nil {
			return nil, err
		}
		t.latency.CompareAndSwap(0, int64(took)) // the first client's way says more
	}
	host, _, err := net.SplitHostPort(f.Profile.ProxyAddr)
	if err != nil {
		return nil, fmt.Errorf("profile %s: proxy address: %w", f.Profile.Name, err)
	}
	to := route.Route{
		ProxyAddr: f.Profile.ProxyAddr, ServerName: host, ALPN: proto.ALPN, ALPNHints: proto.ALPNHints(version),
		Cert: cert.TLS, RootCAs: set.RootCAs, Insecure: set.Insecure,
		ConnUpgrade: upgrade, ClusterCAs: clusterCAs,
	}
	until := cert.ValidUntil().Round(0)
	ending := func(dial proxies.Dial) proxies.Dial {
		return func(ctx context.Context) (net.Conn, error) {
			conn, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return proxies.Ending(conn, until), nil
		}
	}
	pace := r.paces.of(f.Profile.ProxyAddr)
	dial := f.Cluster.Watched(route.Dialer{Route: to, UpgradeNeeded: f.Cluster.RequireConnUpgrade}.Dial)
	cred := &credential{dial: pace.Paced(t, ending(dial)), identity: cert.TLS, upgrade: upgrade, validUntil: until}
	cred.probe = probing(f.Cluster, route.Probe{ShowCert: proto.Warm}, to)
	if proto.Warm {
		// Watched too: a client that took a connection kept ready dials none, and what
		// takes its place may be the first to meet with a proxy that is away.
		cred.spare = pace.Spare(ending(f.Cluster.Watched(to.Dial)))
	}
	return cred, nil
}

func (dbKind) list(ctx context.Context, f sessions.Session, clusterName string) ([]ipc.Resource, error) {
	dbs, err := f.Cluster.Databases(ctx, clusterName)
	if err != nil {
		return nil, err
	}
	id := f.Profile.Session.Identity
	list := make([]ipc.Resource, 0, len(dbs))
	for _, d := range dbs {
		list = append(list, ipc.Resource{
			Name: d.Name, Kind: state.KindDB, Protocol: d.Protocol, Description: d.Description, Labels: d.Labels,
			Cluster: clusterName, DBUsers: id.DBUsers, DBNames: id.DBNames,
		})
	}
	return list, nil
}

func (dbKind) hungUp(p *state.Problem, err error, spec state.TunnelSpec, proxy string) {
	p.Action = listCommand(spec)
	if refused, ok := errors.AsType[*db.RefusedError](err); ok {
		p.Title = "Client refused"
		p.Text = fmt.Sprintf("%s refused a client of tunnel %q, and all it says is: %s", proxy, spec.Name, sentence(refused.Words))
		return
	}
	p.Title = "Database hung up"
	p.Text = fmt.Sprintf("%s was reached, but it hung up on tunnel %q without a word: the service behind database %q may be away.",
		proxy, spec.Name, spec.Resource)
}

// CheckDBName refuses a name that no database in a server of the protocol can have.
func CheckDBName(protocol, name string) error {
	proto, _ := db.Lookup(protocol)
	if proto.TakesDBName(name) {
		return nil
	}
	return &ipc.Error{
		Code:    ipc.CodeInvalid,
		Message: fmt.Sprintf("%s numbers its databases, and %q is no such number", proto.Title, name),
		Hint:    "use a number as --db-name 0, or leave it to the client",
	}
}

func (dbKind) complete(ctx context.Context, f sessions.Session, spec state.TunnelSpec) (state.TunnelSpec, error) {
	d, err := f.Cluster.Database(ctx, spec.Cluster, spec.Resource)
	if err != nil {
		return spec, err
	}
	if err := CheckDBName(d.Protocol, spec.DBName); err != nil {
		return spec, err
	}
	proto, known := db.Lookup(d.Protocol)
	id := f.Profile.Session.Identity
	listed := len(id.DBUsers) > 0 && !slices.Contains(id.DBUsers, "*") // whom one may be is a choice of a few
	may := func(user string) bool { return !listed || slices.Contains(id.DBUsers, user) }
	switch {
	case spec.DBUser != "":
		if may(spec.DBUser) || spec.DBUser == id.User { // which Teleport may create in the database
			return spec, nil
		}
		return spec, &ipc.Error{
			Code:    ipc.CodeInvalid,
			Message: fmt.Sprintf("%q is not among the database users whom you may be", spec.DBUser),
			Hint:    "use another --db-user" + allowedUsers(id.DBUsers),
		}
	case proto.DefaultDBUser != "" && may(proto.DefaultDBUser):
		return spec, nil
	case listed && len(id.DBUsers) == 1:
		spec.DBUser = id.DBUsers[0]
		return spec, nil
	case known && (proto.NeedsDBUser || proto.DefaultDBUser != ""):
		return spec, &ipc.Error{
			Code:    ipc.CodeInvalid,
			Message: fmt.Sprintf("%s takes the database user from the cert, so the tunnel must name one", d.Protocol),
			Hint:    "add --db-user" + allowedUsers(id.DBUsers),
		}
	default:
		return spec, nil // each client names its own
	}
}
