package simcluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gravitational/teleport/api/constants"
)

// tlsConnKey is where a request's context has its TLS connection.
type tlsConnKey struct{}

// startHTTP starts the web API and the Kubernetes endpoint.
func (c *Cluster) startHTTP() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /webapi/ping", c.handlePing)
	mux.HandleFunc("GET /webapi/ping/{connector}", c.handlePing)
	mux.HandleFunc("GET /webapi/find", c.handleFind)
	mux.HandleFunc("POST /webapi/ssh/certs", c.handlePasswordLogin)
	mux.HandleFunc("POST /webapi/{kind}/login/console", c.handleSSOStart)
	mux.HandleFunc("GET /sim/idp", c.handleIDPPage)
	mux.HandleFunc("GET /sim/idp/answer", c.handleIDPAnswer)
	mux.HandleFunc("GET "+constants.WebAPIConnUpgrade, c.handleUpgrade)
	for handler, ln := range map[http.Handler]*handoff{mux: c.web, kubeEndpoint{c}: c.kube} {
		srv := &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: time.Minute,
			ErrorLog:          slog.NewLogLogger(c.cfg.Log.Handler(), slog.LevelDebug),
			BaseContext:       func(net.Listener) context.Context { return c.ctx },
			ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
				return context.WithValue(ctx, tlsConnKey{}, nc)
			},
		}
		c.servers = append(c.servers, srv)
		c.wg.Go(func() { _ = srv.Serve(ln) }) // returns when closed; there is nothing else it could tell
	}
}

// rawConn returns the accepted connection beneath a request's.
func rawConn(r *http.Request) *conn {
	tc, ok := r.Context().Value(tlsConnKey{}).(*tls.Conn)
	if !ok {
		return nil
	}
	hc, ok := tc.NetConn().(*helloConn)
	if !ok {
		return nil
	}
	raw, _ := hc.Conn.(*conn)
	return raw
}

// The answer to a ping, as far as clients read it. The api module's own type
// would do, at the price of linking its web client.
type (
	pingResponse struct {
		Auth             *authSettings `json:"auth,omitempty"` // /webapi/find leaves it out
		Proxy            proxySettings `json:"proxy"`
		ServerVersion    string        `json:"server_version"`
		MinClientVersion string        `json:"min_client_version"`
		ClusterName      string        `json:"cluster_name"`
		AutoUpgrades     bool          `json:"automatic_upgrades"`
		Edition          string        `json:"edition"`
	}
	authSettings struct {
		Type              string             `json:"type"`
		SecondFactor      string             `json:"second_factor,omitempty"`
		Local             *localSettings     `json:"local,omitempty"`
		OIDC              *connectorSettings `json:"oidc,omitempty"`
		SAML              *connectorSettings `json:"saml,omitempty"`
		GitHub            *connectorSettings `json:"github,omitempty"`
		PrivateKeyPolicy  string             `json:"private_key_policy"`
		PIVSlot           string             `json:"piv_slot"`
		HasMOTD           bool               `json:"has_motd"`
		DefaultSessionTTL string             `json:"default_session_ttl"`
	}
	localSettings struct {
		Name string `json:"name"`
	}
	connectorSettings struct {
		Name    string `json:"name"`
		Display string `json:"display"`
	}
	proxySettings struct {
		Kube              kubeSettings `json:"kube"`
		SSH               sshSettings  `json:"ssh"`
		DB                dbSettings   `json:"db"`
		TLSRoutingEnabled bool         `json:"tls_routing_enabled"`
	}
	kubeSettings struct {
		Enabled    bool   `json:"enabled"`
		ListenAddr string `json:"listen_addr"`
	}
	dbSettings struct {
		PostgresListenAddr string `json:"postgres_listen_addr"`
		MySQLListenAddr    string `json:"mysql_listen_addr"`
	}
	sshSettings struct {
		ListenAddr       string `json:"listen_addr"`
		TunnelListenAddr string `json:"tunnel_listen_addr"`
		WebListenAddr    string `json:"web_listen_addr"`
		PublicAddr       string `json:"public_addr,omitempty"`
	}
)

// handlePing tells unauthenticated clients how to log in.
func (c *Cluster) handlePing(w http.ResponseWriter, r *http.Request) {
	resp := c.find()
	resp.Auth = &authSettings{
		Type:              "local",
		SecondFactor:      c.secondFactor(),
		Local:             &localSettings{},
		PrivateKeyPolicy:  c.cfg.PrivateKeyPolicy,
		DefaultSessionTTL: c.cfg.SessionTTL.String(),
	}
	connector, err := c.pingConnector(r.PathValue("connector"))
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	if connector != nil {
		settings := &connectorSettings{Name: connector.Name, Display: connector.Display}
		resp.Auth.Type = string(connector.Type)
		switch connector.Type {
		case OIDC:
			resp.Auth.OIDC = settings
		case SAML:
			resp.Auth.SAML = settings
		case GitHub:
			resp.Auth.GitHub = settings
		}
	} else {
		resp.Auth.Local.Name = "local"
	}
	writeJSON(w, http.StatusOK, resp)
}

// handleFind tells unauthenticated clients where the proxy's services are.
func (c *Cluster) handleFind(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, c.find())
}

func (c *Cluster) find() pingResponse {
	addr := c.ProxyAddr()
	minClient := "15.0.0"
	if c.cfg.Version == V17 {
		minClient = "16.0.0-aa"
	}
	return pingResponse{
		Proxy: proxySettings{
			Kube: kubeSettings{Enabled: true, ListenAddr: addr},
			SSH: sshSettings{
				ListenAddr: addr, TunnelListenAddr: addr, WebListenAddr: addr, PublicAddr: addr,
			},
			DB:                dbSettings{PostgresListenAddr: addr, MySQLListenAddr: addr},
			TLSRoutingEnabled: true,
		},
		ServerVersion:    c.cfg.Version,
		MinClientVersion: minClient,
		ClusterName:      c.cfg.Name,
		Edition:          "community",
	}
}

// pingConnector returns the connector a ping asks for: the named one, or the
// default; nil means local users.
func (c *Cluster) pingConnector(name string) (*Connector, error) {
	switch {
	case name == "local":
		return nil, nil // no connector is an answer
	case name == "" && len(c.cfg.Connectors) > 0:
		return &c.cfg.Connectors[0], nil
	case name == "":
		return nil, nil // no connector is an answer
	}
	i := slices.IndexFunc(c.cfg.Connectors, func(cn Connector) bool { return cn.Name == name })
	if i < 0 {
		return nil, c.invalidConnector(name)
	}
	return &c.cfg.Connectors[i], nil
}

func (c *Cluster) secondFactor() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.users {
		if u.OTP != "" || u.LoginTOTP {
			return "otp"
		}
	}
	return "off"
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // a client that hung up needs no answer
}

// writeError answers in the form of Teleport's web API.
func writeError(w http.ResponseWriter, code int, message string) {
	writeJSON(w, code, map[string]any{"error": map[string]string{"message": message}})
}
