package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/utils"

	"berth/certwatch"
	"berth/proxies/route"
)

const (
	maxProxies = 32 // that are asked
	// probeALPN is a protocol that every Teleport proxy knows, and for which the
	// handshake needs no cert.
	probeALPN = "teleport-reversetunnel"
	// upgradeALPN is a protocol that goes through the connection upgrade, as tunnels do.
	upgradeALPN = "teleport-postgres"
)

// target is a proxy to look at.
type target struct {
	addr        string // host:port
	host        string
	caFile      string
	roots       *x509.CertPool // nil means the system's
	insecure    bool
	clusterCAs  *x509.CertPool // of the session; nil means that there is none
	upgrade     bool           // the profile says that a connection upgrade is needed
	knowsProxy  bool           // there is a profile that says so, or the opposite
	unreadable  error
	throughHTTP bool // the environment has an HTTP proxy for it
}

func (d *doctor) checkProxies(ctx context.Context) []Finding {
	targets, err := d.targets(ctx)
	if err != nil {
		return one("proxy", Fail, "the homes of tsh cannot be read in time, so berth does not know which proxies to ask", "")
	}
	if conf, ok := d.config.peek(); ok && conf.unknown && len(targets) == 0 {
		return skipUnknown("proxy", "which proxies there are")
	}
	if len(targets) == 0 {
		return one("proxy", Skip, "no profile and no config names a proxy", "berth login PROXY")
	}
	var more []Finding
	if n := len(targets) - maxProxies; n > 0 {
		more = one("proxy", Skip, fmt.Sprintf("%d more proxies were not asked", n), "")
		targets = targets[:maxProxies]
	}
	return append(each(ctx, targets, d.checkProxy), more...)
}

// targets are the proxies of the config and of the profiles: those with a
// session first, since they are in use.
func (d *doctor) targets(ctx context.Context) ([]target, error) {
	conf, err := d.config.get(ctx)
	if err != nil {
		return nil, err
	}
	homes, err := d.homes.get(ctx)
	if err != nil {
		return nil, err
	}
	var profiles []*certwatch.Profile
	for _, h := range homes {
		profiles = append(profiles, h.profiles...)
	}
	slices.SortStableFunc(profiles, func(a, b *certwatch.Profile) int { return rank(a) - rank(b) })
	var targets []target
	add := func(addr string, p *certwatch.Profile) {
		t := target{addr: withPort(addr)}
		if slices.ContainsFunc(targets, func(o target) bool { return strings.EqualFold(o.addr, t.addr) }) {
			return
		}
		t.host, _, _ = net.SplitHostPort(t.addr) // it has a port
		if p != nil {
			t.upgrade, t.knowsProxy = p.ConnUpgradeRequired, true
			if p.Session != nil {
				t.clusterCAs = p.Session.CAPool()
			}
		}
		t.throughHTTP = utils.GetProxyURL(t.addr) != nil
		if set, ok := conf.cfg.Profile(t.addr); ok {
			t.insecure, t.caFile = set.Insecure, set.CAFilePath()
			t.roots, t.unreadable = readRoots(t.caFile)
		}
		targets = append(targets, t)
	}
	for _, p := range profiles {
		add(p.ProxyAddr, p)
	}
	for _, p := range conf.cfg.Profiles {
		add(p.Proxy, nil)
	}
	return targets, nil
}

func rank(p *certwatch.Profile) int {
	if p.Session != nil || p.Current {
		return 0
	}
	return 1
}

func withPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), "443")
}

// readRoots reads a ca_file; none means the system's roots.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no file is no error, and nil are the system's roots
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return roots, nil
}

// checkProxy takes one step after the other, and stops at the first failure.
func (d *doctor) checkProxy(ctx context.Context, t target) []Finding {
	if t.unreadable != nil {
		return one("proxy_tls", Fail, fmt.Sprintf("the ca_file of %s cannot be read: %v", t.addr, t.unreadable), "correct ca_file in the config")
	}
	steps := []func(context.Context, target) []Finding{d.proxyDNS, d.proxyTCP, d.proxyTLS, d.proxyALPN}
	if t.throughHTTP { // it finds and reaches the proxy
		steps = steps[2:]
	}
	var found []Finding
	for _, step := range append(steps, d.proxyWeb) {
		said := step(ctx, t)
		found = append(found, said...)
		if (Report{Findings: said}).Failed() {
			return found
		}
	}
	if t.insecure {
		found = append(found, one("proxy_tls", Warn, fmt.Sprintf("the certificate of %s is not verified: the config says insecure", t.addr),
			"name the proxy's CA with ca_file, and take insecure out")...)
	}
	if len(found) > 0 {
		return found
	}
	way := ""
	if t.upgrade {
		way = ", through a load balancer (connection upgrade)"
	}
	return one("proxy", OK, t.addr+" is reached and trusted, and the clocks agree"+way, "")
}

func (d *doctor) proxyDNS(ctx context.Context, t target) []Finding {
	if net.ParseIP(t.host) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, Limits.Step)
	defer cancel()
	if _, err := d.Resolver.LookupHost(ctx, t.host); err != nil {
		return one("proxy_dns", Fail, fmt.Sprintf("the name %s is not found: %v", t.host, err), "check the name, the network and the VPN")
	}
	return nil
}

func (d *doctor) proxyTCP(ctx context.Context, t target) []Finding {
	ctx, cancel := context.WithTimeout(ctx, Limits.Step)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return one("proxy_tcp", Fail, fmt.Sprintf("%s cannot be connected to: %v", t.addr, err), "check the address and port, the firewall and the VPN")
	}
	_ = conn.Close() // nothing was sent
	return nil
}

func (d *doctor) proxyTLS(ctx context.Context, t target) []Finding {
	err := probe(ctx, route.Route{ProxyAddr: t.addr, RootCAs: t.roots, Insecure: t.insecure})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && d.Now().Before(invalid.Cert.NotBefore):
		return one("clock", Fail, fmt.Sprintf("the certificate of %s begins at %s, which by this computer's clock is in the future", t.addr,
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339)), "set the clock: switch on its setting over the network")
	case errors.Is(err, route.ErrUntrusted):
		return one("proxy_tls", Fail, fmt.Sprintf("the certificate of %s is not trusted: %v", t.addr, err),
			fmt.Sprintf("name its CA in the config: profiles: [{proxy: %q, ca_file: /path/to/ca.pem}]; if the network inspects TLS, the CA is the network's", t.addr))
	default:
		return one("proxy_tls", Fail, fmt.Sprintf("%s does not answer as a TLS server: %v", t.addr, err), "check that the address is a Teleport proxy's web address")
	}
}

// probe dials and hangs up.
func probe(ctx context.Context, r route.Route) error {
	ctx, cancel := context.WithTimeout(ctx, Limits.Step)
	defer cancel()
	conn, err := r.Dial(ctx)
	if err != nil {
		return err
	}
	_ = conn.Close() // nothing was sent
	return nil
}

// proxyALPN finds out whether Teleport's protocols arrive at the proxy, or a
// load balancer stands before it, and whether the profile knows.
func (d *doctor) proxyALPN(ctx context.Context, t target) []Finding {
	to := route.Route{ProxyAddr: t.addr, RootCAs: t.roots, Insecure: t.insecure, ALPN: probeALPN}
	err := probe(ctx, to)
	if err == nil {
		return nil
	}
	if !errors.Is(err, route.ErrUpgradeNeeded) {
		return one("proxy_alpn", Fail, fmt.Sprintf("%s refuses Teleport's protocols (ALPN): %v", t.addr, err),
			"check that the address is a Teleport proxy's, with TLS routing")
	}
	// Inside the upgrade the proxy shows a cert that only a session can verify.
	if t.clusterCAs != nil {
		to.ALPN, to.ConnUpgrade, to.ClusterCAs = upgradeALPN, true, t.clusterCAs
		err := probe(ctx, to)
		if errors.Is(err, route.ErrUntrusted) {
			return one("proxy_upgrade", Fail, fmt.Sprintf("what answers behind the load balancer of %s is not known to the session: %v", t.addr, err),
				"log in again, which brings the cluster's present CAs: berth login "+t.addr)
		}
		if err != nil {
			return one("proxy_upgrade", Fail, fmt.Sprintf("a load balancer before %s ends TLS, and does not let Teleport's connection upgrade pass: %v", t.addr, err),
				"ask who runs the load balancer to pass on WebSocket upgrades of /webapi/connectionupgrade")
		}
	}
	if t.knowsProxy && !t.upgrade {
		return one("proxy_alpn", Warn, fmt.Sprintf("a load balancer before %s ends TLS, and the profile does not know of it: berth finds out by itself, tsh does not", t.addr),
			"log in again, so that tsh notes it: tsh logout, then berth login "+t.addr)
	}
	return nil
}

// proxyWeb asks what the proxy says of itself: the versions it takes, and the
// time.
func (d *doctor) proxyWeb(ctx context.Context, t target) []Finding {
	least, skew, err := d.ping(ctx, t)
	if err != nil {
		return one("proxy_web", Fail, fmt.Sprintf("%s does not answer as a Teleport proxy: %v", t.addr, err), "check the address")
	}
	found := d.tooOld(ctx, t.addr, least)
	if skew.Abs() > maxClock {
		word := "behind"
		if skew < 0 {
			word = "ahead of"
		}
		found = append(found, one("clock", Fail, fmt.Sprintf("the clock of this computer is %v %s that of %s", skew.Abs().Round(time.Second), word, t.addr),
			"set the clock: switch on its setting over the network")...)
	}
	return found
}

// ping returns the oldest client the proxy takes, and how far its clock is
// ahead of this computer's.
func (d *doctor) ping(ctx context.Context, t target) (least string, skew time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, Limits.Step)
	defer cancel()
	started := d.Now()
	pong, err := route.Ping(ctx, t.addr, "", t.roots, t.insecure)
	if err != nil {
		return "", 0, err
	}
	if !pong.Date.IsZero() {
		skew = pong.Date.Sub(started)
	}
	return pong.MinClient, skew, nil
}

// TryProxy asks whether a Teleport proxy answers at an address, host:port, and
// shows a web certificate that caFile, or the system if it is empty, knows the
// signer of.
func TryProxy(ctx context.Context, addr, caFile string) error {
	t := target{addr: addr}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return err
		}
		if t.roots = x509.NewCertPool(); !t.roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate in PEM", caFile)
		}
	}
	d := &doctor{Config: Config{Now: time.Now}}
	_, _, err := d.ping(ctx, t)
	return err
}
