//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/simcluster/simkube"
)

const (
	binVar   = "BERTH_E2E_TELEPORT_BIN" // names the folder with the real binaries
	berthVar = "BERTH_E2E_BERTH"        // names a berth to test instead of the one built from here
)

// lab is what all journeys share: one cluster, one PostgreSQL, one berth.
var lab *laboratory

// laboratory is a folder with everything in it that runs.
type laboratory struct {
	dir      string // of everything: configs, data, logs
	bin      string // teleport, tsh, tctl
	berth    string // the berth under test
	webCA    *webCA
	teleport *teleport
	postgres *postgres
	kube     *simkube.Endpoint // behind Teleport's Kubernetes service
}

// TestMain starts the laboratory, runs the journeys and ends everything.
func TestMain(m *testing.M) {
	if os.Getenv(installVar) != "" {
		installAndDie()
		return
	}
	bin := os.Getenv(binVar)
	if bin == "" {
		fmt.Printf("skipped: set %s to the folder that holds teleport, tsh and tctl: "+
			"these journeys need a real Teleport, which berth does not bring along\n", binVar)
		return
	}
	os.Exit(runLab(m, bin))
}

func runLab(m *testing.M, bin string) (code int) {
	var err error
	begin := time.Now()
	lab, err = newLaboratory(bin)
	if err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: the laboratory does not start: %v\n", err)
		code = 1
	} else {
		fmt.Printf("laboratory up after %s: %s\n", time.Since(begin).Round(time.Millisecond), lab.teleport)
		code = m.Run()
	}
	if lab == nil {
		return code
	}
	lab.close()
	if code != 0 {
		fmt.Fprintf(os.Stderr, "the logs are kept in %s\n", lab.dir)
		return code
	}
	if err := os.RemoveAll(lab.dir); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n", err)
	}
	return code
}

// newLaboratory starts everything; what it returns is to be closed even if
// there is an error too.
func newLaboratory(bin string) (*laboratory, error) {
	for _, name := range []string{"teleport", "tsh", "tctl"} {
		if info, err := os.Stat(filepath.Join(bin, name)); err != nil || info.Mode()&0o111 == 0 {
			return nil, fmt.Errorf("%s=%s holds no program %s", binVar, bin, name)
		}
	}
	dir, err := os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		return nil, err
	}
	l := &laboratory{dir: dir, bin: bin, berth: filepath.Join(dir, "berth")}
	// PostgreSQL runs as another user and has its folder below this one.
	if err := os.Chmod(dir, 0o755); err != nil {
		return l, err
	}
	if l.webCA, err = newWebCA(dir); err != nil {
		return l, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := l.buildBerth(ctx); err != nil {
		return l, err
	}
	return l, l.start(ctx)
}

func (l *laboratory) buildBerth(ctx context.Context) error {
	if path := os.Getenv(berthVar); path != "" {
		l.berth = path
		return nil
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", l.berth, "berth/cmd/berth")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build berth: %w\n%s", err, out)
	}
	return nil
}

func (l *laboratory) start(ctx context.Context) error {
	pgPort, err := freePort()
	if err != nil {
		return err
	}
	if err := l.startKube(); err != nil {
		return err
	}
	l.teleport, err = newTeleport(l, teleportConfig{
		cluster: "ref.test", kubes: []string{kubeProd, kubeDev}, kubeconfig: l.kubeconfig(),
		databases: []dbService{
			{name: "pg", uri: fmt.Sprintf("127.0.0.1:%d", pgPort)},
			{name: "pg-away", uri: "127.0.0.1:1"}, // nothing listens there
			{name: "my-away", uri: "127.0.0.1:1", protocol: "mysql"},
			{name: "re-away", uri: "127.0.0.1:1", protocol: "redis"},
		},
	})
	if err != nil {
		return err
	}
	if err := l.teleport.start(ctx); err != nil {
		return err
	}
	if l.postgres, err = newPostgres(ctx, l, pgPort); err != nil {
		return err
	}
	return l.teleport.createRoles(ctx)
}

func (l *laboratory) close() {
	var errs []error
	if l.teleport != nil {
		errs = append(errs, l.teleport.stop())
	}
	if l.postgres != nil {
		errs = append(errs, l.postgres.stop())
	}
	if l.kube != nil {
		errs = append(errs, l.kube.Close())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(os.Stderr, "end the laboratory: %v\n", err)
	}
}

// environment is the environment for a child: this one's, without what would
// lead tsh or psql elsewhere, and with extra.
func environment(extra ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "TELEPORT_") || strings.HasPrefix(name, "BERTH_") ||
			strings.HasPrefix(name, "PG") || name == "SSH_AUTH_SOCK" || name == "SSL_CERT_FILE" || name == "SSL_CERT_DIR" {
			continue
		}
		env = append(env, kv)
	}
	return append(env, extra...)
}
