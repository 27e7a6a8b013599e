//go:build e2e && linux

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// teleportConfig says what a cluster is like.
type teleportConfig struct {
	cluster   string
	folder    string // of its own; empty means one that is named like the cluster
	databases []dbService
	kubes     []string // Kubernetes clusters, all of them kubeconfig's
	// kubeconfig has a context for each of kubes.
	kubeconfig string
	ssh        bool // with an SSH server, named e2e
}

// dbService is a database that the cluster offers.
type dbService struct {
	name, uri string
	protocol  string // empty means postgres
	foreign   bool   // its certificate is another cluster's, and not verified
}

// teleport is a real single-node cluster: auth, proxy and database service in
// one process, TLS routing on one port.
type teleport struct {
	l       *laboratory
	cfg     teleportConfig
	dir     string
	config  string
	port    int // of the proxy
	version string
	proc    *proc
}

func newTeleport(l *laboratory, cfg teleportConfig) (*teleport, error) {
	tp := &teleport{l: l, cfg: cfg, dir: filepath.Join(l.dir, cmp.Or(cfg.folder, cfg.cluster))}
	tp.config = filepath.Join(tp.dir, "teleport.yaml")
	if err := os.MkdirAll(filepath.Join(tp.dir, "data"), 0o700); err != nil {
		return nil, err
	}
	var err error
	if tp.port, err = freePort(); err != nil {
		return nil, err
	}
	authPort, err := freePort()
	if err != nil {
		return nil, err
	}
	text, err := tp.yaml(authPort)
	if err != nil {
		return nil, err
	}
	return tp, os.WriteFile(tp.config, []byte(text), 0o600)
}

func (tp *teleport) yaml(authPort int) (string, error) {
	cert, key, err := tp.l.webCA.issue(tp.cfg.cluster)
	if err != nil {
		return "", err
	}
	sshPort, err := freePort()
	if err != nil {
		return "", err
	}
	ssh := "no"
	if tp.cfg.ssh {
		ssh = "yes"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `version: v3
teleport:
  nodename: e2e
  data_dir: %[1]s/data
  storage: {type: sqlite, path: %[1]s/data/backend, sync: "OFF"}
  log: {output: stderr, severity: INFO}
auth_service:
  enabled: "yes"
  cluster_name: %[2]s
  listen_addr: 127.0.0.1:%[3]d
  proxy_listener_mode: multiplex
  authentication: {type: local, second_factor: "off"}
proxy_service:
  enabled: "yes"
  web_listen_addr: 127.0.0.1:%[4]d
  public_addr: 127.0.0.1:%[4]d
  https_keypairs:
  - {key_file: %[5]s, cert_file: %[6]s}
ssh_service: {enabled: %[7]q, listen_addr: 127.0.0.1:%[8]d}
db_service:
  enabled: "yes"
  resources: [{labels: {"*": "*"}}]
  databases:
`, tp.dir, tp.cfg.cluster, authPort, tp.port, key, cert, ssh, sshPort)
	for _, db := range tp.cfg.databases {
		mode := "verify-ca"
		if db.foreign {
			mode = "insecure"
		}
		fmt.Fprintf(&b, "  - {name: %s, protocol: %s, uri: %q, static_labels: {env: e2e}, tls: {mode: %s}}\n",
			db.name, cmp.Or(db.protocol, "postgres"), db.uri, mode)
	}
	if len(tp.cfg.kubes) > 0 {
		port, err := freePort()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "kubernetes_service:\n  enabled: \"yes\"\n  listen_addr: 127.0.0.1:%d\n"+
			"  kubeconfig_file: %s\n  labels: {env: e2e}\n", port, tp.cfg.kubeconfig)
	}
	return b.String(), nil
}

func (tp *teleport) addr() string { return fmt.Sprintf("127.0.0.1:%d", tp.port) }

func (tp *teleport) String() string { return "Teleport " + tp.version + " at " + tp.addr() }

// start starts the cluster, or starts it again, and waits until it serves its
// databases.
func (tp *teleport) start(ctx context.Context) error {
	cmd := exec.Command(filepath.Join(tp.l.bin, "teleport"), "start", "-c", tp.config)
	// The database service dials the proxy over TLS as well.
	cmd.Env = environment("SSL_CERT_FILE=" + tp.l.webCA.file)
	var err error
	if tp.proc, err = startProc("teleport", tp.dir+".log", cmd); err != nil {
		return err
	}
	err = until(ctx, 90*time.Second, 50*time.Millisecond, func() error {
		if !tp.proc.running() {
			return fmt.Errorf("it ended: %w", tp.proc.err)
		}
		return tp.ping(ctx)
	})
	if err == nil {
		limit := 30*time.Second + time.Duration(len(tp.cfg.databases))*time.Second/4 // they announce themselves one by one
		err = until(ctx, limit, 100*time.Millisecond, func() error { return tp.servesDatabases(ctx) })
	}
	if err == nil {
		err = until(ctx, 30*time.Second, 100*time.Millisecond, func() error { return tp.servesKubes(ctx) })
	}
	if err != nil {
		return fmt.Errorf("start teleport: %w\n%s", err, tp.proc.tail())
	}
	return nil
}

func (tp *teleport) ping(ctx context.Context) error {
	body, err := tp.web(ctx, http.MethodGet, "/webapi/ping", nil)
	if err != nil {
		return err
	}
	var pong struct {
		ServerVersion string `json:"server_version"`
	}
	err = json.Unmarshal(body, &pong)
	tp.version = pong.ServerVersion
	return err
}

func (tp *teleport) servesDatabases(ctx context.Context) error {
	out, err := tp.tctl(ctx, "", "db", "ls", "--format=json")
	if err != nil {
		return err
	}
	for _, db := range tp.cfg.databases {
		if !strings.Contains(out, `"`+db.name+`"`) {
			return fmt.Errorf("database %s is not served yet", db.name)
		}
	}
	return nil
}

func (tp *teleport) servesKubes(ctx context.Context) error {
	if len(tp.cfg.kubes) == 0 {
		return nil
	}
	out, err := tp.tctl(ctx, "", "kube", "ls", "--format=json")
	if err != nil {
		return err
	}
	for _, name := range tp.cfg.kubes {
		if !strings.Contains(out, `"`+name+`"`) {
			return fmt.Errorf("Kubernetes cluster %s is not served yet", name)
		}
	}
	return nil
}

func (tp *teleport) stop() error {
	if tp.proc == nil {
		return nil
	}
	return tp.proc.stop(syscall.SIGINT, 15*time.Second)
}

// tctl administers the cluster and returns what tctl prints.
func (tp *teleport) tctl(ctx context.Context, stdin string, args ...string) (string, error) {
	args = append([]string{"-c", tp.config}, args...)
	return mustRun(ctx, environment("SSL_CERT_FILE="+tp.l.webCA.file), stdin, filepath.Join(tp.l.bin, "tctl"), args...)
}

// apply creates or replaces a resource.
func (tp *teleport) apply(ctx context.Context, yaml string) error {
	_, err := tp.tctl(ctx, yaml, "create", "-f")
	return err
}

// The roles of the journeys.
const (
	roleDB      = "db-all"      // every database, user app, reporter or tester
	roleApp     = "db-app"      // every database, user app only
	roleNone    = "db-none"     // no database
	roleNoMatch = "db-labelled" // databases with a label none has
)

const roleTemplate = `kind: role
version: v7
metadata: {name: %s}
spec:
  options: {max_session_ttl: 12h, forward_agent: true}
  allow:
    logins: [nobody]
    db_labels: {%s}
    db_users: [%s]
    db_names: [appdb]
`

func (tp *teleport) createRoles(ctx context.Context) error {
	var docs []string
	for _, r := range []struct{ name, labels, users string }{
		{roleDB, "'*': '*'", "app, reporter, tester"},
		{roleApp, "'*': '*'", "app"},
		{roleNone, "", "app"},
		{roleNoMatch, "env: other", "app"},
	} {
		docs = append(docs, fmt.Sprintf(roleTemplate, r.name, r.labels, r.users))
	}
	docs = append(docs, kubeRoles...)
	return tp.apply(ctx, strings.Join(docs, "---\n"))
}

// addUser creates a local user and sets the password, as the invitation's web
// page would.
func (tp *teleport) addUser(ctx context.Context, name, password string, roles ...string) error {
	out, err := tp.tctl(ctx, "", "users", "add", name, "--roles="+strings.Join(roles, ","), "--logins=nobody", "--format=json")
	if err != nil {
		return err
	}
	var token struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(out), &token); err != nil {
		return fmt.Errorf("invitation of %s: %w", name, err)
	}
	_, err = tp.web(ctx, http.MethodPut, "/v1/webapi/users/password/token",
		map[string]any{"token": token.Metadata.Name, "password": []byte(password)})
	return err
}

// setRoles changes what the user may do from the next login on, and waits
// until the auth service's cache knows.
func (tp *teleport) setRoles(ctx context.Context, user string, roles ...string) error {
	if _, err := tp.tctl(ctx, "", "users", "update", user, "--set-roles="+strings.Join(roles, ",")); err != nil {
		return err
	}
	return until(ctx, 10*time.Second, 100*time.Millisecond, func() error {
		out, err := tp.tctl(ctx, "", "get", "users/"+user, "--format=json")
		if err != nil {
			return err
		}
		var users []struct {
			Spec struct {
				Roles []string `json:"roles"`
			} `json:"spec"`
		}
		if err := json.Unmarshal([]byte(out), &users); err != nil {
			return err
		}
		if len(users) != 1 || !slices.Equal(users[0].Spec.Roles, roles) {
			return fmt.Errorf("the roles of %s are %+v, not yet %v", user, users, roles)
		}
		return nil
	})
}

// web calls the proxy's web API the way its own page does.
func (tp *teleport) web(ctx context.Context, method, path string, body any) ([]byte, error) {
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+tp.addr()+path, &payload)
	if err != nil {
		return nil, err
	}
	csrf := make([]byte, 32)
	if _, err := rand.Read(csrf); err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-CSRF-Token", hex.EncodeToString(csrf))
	req.AddCookie(&http.Cookie{Name: "__Host-grv_csrf", Value: hex.EncodeToString(csrf)})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: tp.l.webCA.pool()}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, err
}

// startAnother starts a cluster of the lab's name that a test may spoil.
func startAnother(t *testing.T, change ...func(*teleportConfig)) *teleport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cfg := teleportConfig{
		cluster: lab.teleport.cfg.cluster, folder: "another",
		databases: []dbService{{name: "pg", uri: fmt.Sprintf("127.0.0.1:%d", lab.postgres.port), foreign: true}},
	}
	for _, set := range change {
		set(&cfg)
	}
	tp, err := newTeleport(lab, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(tp.stop(), os.RemoveAll(tp.dir)); err != nil {
			t.Error(err)
		}
	})
	clientCA := ""
	for _, step := range []func() error{
		func() error { return tp.start(ctx) },
		func() error { return tp.createRoles(ctx) },
		func() error { clientCA, err = tp.tctl(ctx, "", "auth", "export", "--type=db-client"); return err },
		func() error { return lab.postgres.trust(ctx, clientCA) },
	} {
		if err := step(); err != nil {
			t.Fatalf("another cluster: %v\n%s", err, tp.proc.tail())
		}
	}
	return tp
}

// rotate takes the rotation of a CA to its end, without waiting for anybody to
// log in.
func (tp *teleport) rotate(ctx context.Context, kind string) error {
	for _, phase := range []string{"init", "update_clients", "update_servers", "standby"} {
		if _, err := tp.tctl(ctx, "", "auth", "rotate", "--type="+kind, "--manual", "--phase="+phase); err != nil {
			return err
		}
		// The services take the phase over, some of them by a restart within.
		sleepUntil(ctx, time.Now().Add(6*time.Second))
		if err := until(ctx, 30*time.Second, 200*time.Millisecond, func() error { return tp.servesDatabases(ctx) }); err != nil {
			return err
		}
	}
	return nil
}
