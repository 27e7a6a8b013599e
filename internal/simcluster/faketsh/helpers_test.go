package faketsh

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	if Invoked(os.Args[0], os.Environ()) {
		os.Exit(Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// world is a cluster and a home to log in to it from.
type world struct {
	*simcluster.Cluster
	home, ca string
	env      []string
}

func newWorld(t *testing.T, cfg simcluster.Config) *world {
	t.Helper()
	if cfg.Databases == nil {
		cfg.Databases = []simcluster.Database{
			{Name: "pg", Protocol: "postgres", Labels: map[string]string{"env": "test"}},
			{Name: "kv", Protocol: "redis"},
		}
	}
	c := simworld.Start(t, cfg)
	w := &world{Cluster: c, home: filepath.Join(t.TempDir(), "tsh"), ca: filepath.Join(t.TempDir(), "web-ca.pem")}
	if err := c.WriteWebCA(w.ca); err != nil {
		t.Fatal(err)
	}
	w.env = []string{"TELEPORT_HOME=" + w.home, "SSL_CERT_FILE=" + w.ca, "BERTH_FAKE_TSH_KEY=ecdsa", "USER=alice"}
	if cfg.Version != "" {
		w.env = append(w.env, "BERTH_FAKE_TSH_VERSION="+cfg.Version)
	}
	return w
}

// result is what one run of tsh did.
type result struct {
	code           int
	stdout, stderr string
}

// tsh runs a command without a terminal.
func (w *world) tsh(t *testing.T, args ...string) result {
	t.Helper()
	return w.tshEnv(t, nil, args...)
}

func (w *world) tshEnv(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := Run(ctx, args, append(append([]string(nil), w.env...), env...), strings.NewReader(""), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// want checks the exit code and what was printed.
func (r result) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
		t.Errorf("exit %d\nstdout: %s\nstderr: %s\nwant exit %d, stdout with %q, stderr with %q",
			r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
}

// files returns the modification time of every file in the home.
func (w *world) files(t *testing.T) map[string]time.Time {
	t.Helper()
	files := make(map[string]time.Time)
	err := filepath.WalkDir(w.home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files[strings.TrimPrefix(path, w.home+string(filepath.Separator))] = info.ModTime()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
